"""Models that find subjects: each kind shown its pictures as it knows them, and its output read as it means it."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image
from skimage import data

from library.errors import InputError
from library.prepare.masks import Mask, resized
from library.prepare.saliency import SaliencyModel, open_saliency
from tests.prepare.segmenters import noise, write_colour_model, write_graph

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
WEIGHTS, BIAS = np.array([1.0, -2.0, 0.5]), 0.3


def mask_by(model: SaliencyModel, image: Image.Image) -> Mask:
    """The mask that a model makes of one picture."""
    return model.mask_of(model.run([model.prepare(image)])[0])


def expected_input(kind: str, image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """What a model is shown, (height, width, 3), by the formulas of its authors."""
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS)).astype(float)
    return {
        "u2net": (pixels / pixels.max() - MEAN) / DEVIATION,
        "isnet": pixels / 255 - 0.5,
        "anime": pixels / 255,
        "birefnet": (pixels / 255 - MEAN) / DEVIATION,
    }[kind]


def expected_mask(kind: str, image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """What the colour model is to give."""
    found = expected_input(kind, image, size) @ WEIGHTS + BIAS
    if kind in ("u2net", "isnet"):
        return (found - found.min()) / (found.max() - found.min()) * 255
    return 255 / (1 + np.exp(-found))


@pytest.mark.parametrize("half", [False, True], ids=["float", "half"])
@pytest.mark.parametrize("kind", ["u2net", "isnet", "anime", "birefnet"])
def test_each_kind_as_its_authors_do_it(tmp_path: Path, kind: str, half: bool) -> None:
    path = write_colour_model(tmp_path / "model.onnx", WEIGHTS, BIAS, size=(16, 24), half=half)
    model, told = open_saliency(path, kind, "cpu")
    assert (told, model.size) == (kind, (24, 16))
    image = noise((70, 40), brightest=190)  # so that the picture's largest value is not 255
    shown = expected_input(kind, image, (24, 16)).transpose(2, 0, 1)
    np.testing.assert_allclose(model.prepare(image), shown, atol=2e-3 if half else 1e-5)
    mask = mask_by(model, image)
    assert mask.shape == (16, 24) and mask.dtype == np.uint8
    assert np.abs(mask - expected_mask(kind, image, (24, 16))).max() < (1.5 if half else 0.51)


def test_no_two_kinds_are_shown_the_same() -> None:
    image = noise((70, 40), brightest=190)
    shown = [expected_input(kind, image, (24, 16)) for kind in ("u2net", "isnet", "anime", "birefnet")]
    for number, pixels in enumerate(shown):
        for other in shown[:number]:
            assert np.abs(pixels - other).max() > 0.1


@pytest.mark.parametrize("kind", ["anime", "birefnet"])
def test_shares_are_taken_as_they_are(tmp_path: Path, kind: str) -> None:
    """RMBG-2.0 gives shares and BiRefNet the logarithms of their odds."""
    small = [weight * 0.1 for weight in (1, 1, 1)]
    model, _ = open_saliency(write_colour_model(tmp_path / "model.onnx", small, 0.62), kind, "cpu")
    image = Image.new("RGB", (8, 8), (0, 255, 128))
    raw = 0.1 * (np.array([0, 1, 128 / 255]) if kind == "anime" else (np.array([0, 1, 128 / 255]) - MEAN) / DEVIATION)
    assert abs(int(mask_by(model, image)[0, 0]) - (raw.sum() + 0.62) * 255) < 0.51


@pytest.mark.parametrize("kind", ["u2net", "isnet"])
@pytest.mark.parametrize("colour", ["black", "white", "red"])
def test_in_a_picture_of_one_colour_nothing_is_found(tmp_path: Path, kind: str, colour: str) -> None:
    model, _ = open_saliency(write_colour_model(tmp_path / "model.onnx"), kind, "cpu")
    assert mask_by(model, Image.new("RGB", (9, 9), colour)).max() == 0


def test_large_numbers_do_not_overflow(tmp_path: Path) -> None:
    path = write_colour_model(tmp_path / "model.onnx", (1e6, 0, 0), -5e5)
    model, _ = open_saliency(path, "birefnet", "cpu")
    image = Image.new("RGB", (16, 16), "red")
    image.paste("black", (0, 0, 8, 16))
    with np.errstate(all="raise"):
        mask = mask_by(model, image)
    assert mask[8, 1] == 0 and mask[8, 14] == 255


@pytest.mark.parametrize("kind", ["u2net", "birefnet"])
def test_numbers_that_are_not_finite_are_the_picture_s_failure(tmp_path: Path, kind: str) -> None:
    model, _ = open_saliency(write_colour_model(tmp_path / "model.onnx", (np.nan, 0, 0)), kind, "cpu")
    with pytest.raises(ValueError, match="not finite"):
        mask_by(model, Image.new("RGB", (9, 9), "black"))


@pytest.mark.parametrize("batch", [1, 3, "pictures"])
def test_any_number_of_pictures_at_once(tmp_path: Path, batch: int | str) -> None:
    path = write_colour_model(tmp_path / "model.onnx", WEIGHTS, batch=batch)
    model, _ = open_saliency(path, "isnet", "cpu")
    inputs = [model.prepare(noise((30, 30), seed)) for seed in range(5)]
    together, alone = model.run(inputs), [model.run([each])[0] for each in inputs]
    assert len(together) == 5
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("size", [("height", "width"), (-1, "width")])
@pytest.mark.parametrize(("kind", "side"), [("u2net", 320), ("birefnet", 1024)])
def test_where_the_file_does_not_say_its_size_the_kind_does(
    tmp_path: Path, kind: str, side: int, size: tuple[int | str, int | str]
) -> None:
    path = write_colour_model(tmp_path / "model.onnx", size=size)
    assert open_saliency(path, kind, "cpu")[0].size == (side, side)


def test_transparent_pictures_lie_on_white_and_any_mode_is_taken(tmp_path: Path) -> None:
    model, _ = open_saliency(write_colour_model(tmp_path / "model.onnx"), "isnet", "cpu")
    for image in (Image.new("RGBA", (5, 5), (0, 0, 0, 0)), Image.new("L", (5, 5), 255), Image.new("1", (5, 5), 1)):
        np.testing.assert_allclose(model.prepare(image), 0.5)


@pytest.mark.parametrize(
    ("given", "found", "words"),
    [
        (["n", 4, 8, 8], ["n", 1, 8, 8], r"takes tensor\(float\) of shape \['n', 4, 8, 8\]"),
        (["n", 8, 8, 3], ["n", 8, 8, 3], "takes .* one that finds subjects takes"),
        (["n", 3], ["n", 3], "takes .* one that finds subjects takes"),
        (["n", 3, 8, 8], ["n", 3, 8, 8], r"gives \(1, 3, 8, 8\); one that tells a subject from the rest"),
    ],
)
def test_other_models_are_refused(tmp_path: Path, given: list, found: list, words: str) -> None:
    path = write_graph(
        tmp_path / "model.onnx",
        [helper.make_node("Identity", ["picture"], ["found"])],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, found)],
    )
    with pytest.raises(InputError, match=words):
        mask_by(open_saliency(path, "u2net", "cpu")[0], noise((8, 8)))


def test_what_onnxruntime_says_is_passed_on(tmp_path: Path) -> None:
    """A model that claims to take several pictures at once, but does not."""
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1, 3, 4, 4])
    nodes = [shape, helper.make_node("Reshape", ["picture", "shape"], ["whole"])]
    nodes.append(helper.make_node("ReduceMean", ["whole"], ["found"], axes=[1]))
    given = helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 3, 4, 4])
    found = helper.make_tensor_value_info("found", TensorProto.FLOAT, [1, 1, 4, 4])
    model, _ = open_saliency(write_graph(tmp_path / "model.onnx", nodes, [given], [found]), "isnet", "cpu")
    inputs = [model.prepare(noise((8, 8), seed)) for seed in range(2)]
    assert len(model.run(inputs[:1])) == 1
    with pytest.raises(InputError, match="the model failed; some work with --batch_size 1 only"):
        model.run(inputs)


# On two photographs a sum of colours and a sigmoid are a segmenter already: the orange suit of an astronaut, and
# bright coins on dark cloth. Boxes are (left, top, right, bottom) in pixels of the photograph, looked up by hand.
PHOTOGRAPHS = {
    "astronaut": (
        (60, 0, -60),
        -25,
        [(70, 300, 120, 340), (40, 430, 90, 460)],
        [(300, 20, 360, 150), (320, 400, 400, 480)],
    ),
    "coins": ((20, 20, 20), -30, [(35, 114, 55, 134), (140, 117, 165, 137)], [(60, 148, 330, 154), (60, 80, 330, 90)]),
}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_small_segmenter_separates_photographs(tmp_path: Path, name: str) -> None:
    weights, bias, inside, outside = PHOTOGRAPHS[name]
    image = Image.fromarray(getattr(data, name)()).convert("RGB")
    path = write_colour_model(tmp_path / "model.onnx", weights, bias, size=(320, 320))
    model, _ = open_saliency(path, "anime", "cpu")
    mask = resized(mask_by(model, image), image.size)
    assert 0.1 < mask.mean() / 255 < 0.6
    for left, top, right, bottom in inside:
        assert mask[top:bottom, left:right].mean() > 0.8 * 255
    for left, top, right, bottom in outside:
        assert mask[top:bottom, left:right].mean() < 0.1 * 255
