"""ONNX taggers: the input to the pixel, every kind of model, and what does not belong together is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper
from PIL import Image

from library.data.decoding import read_picture
from library.errors import InputError
from library.prepare.tag_line import Tag
from library.prepare.tagger import Form, danbooru_pixels, open_tagger, tag_pictures, wd_pixels
from tests.prepare.taggers import SIDE, write_colorist, write_mirror, write_model, write_tags

RED, GREEN = (200, 10, 30), (20, 250, 40)


def two_colored(size: tuple[int, int] = (SIDE, SIDE // 2)) -> Image.Image:
    """Left half red, right half green."""
    picture = Image.new("RGB", size, RED)
    picture.paste(GREEN, (size[0] // 2, 0, *size))
    return picture


def squared() -> np.ndarray:
    """`two_colored` between white bars, RGB, (SIDE, SIDE, 3)."""
    pixels = np.full((SIDE, SIDE, 3), 255, np.float32)
    pixels[1:3, :2], pixels[1:3, 2:] = RED, GREEN
    return pixels


def seen(folder: Path, picture: Image.Image) -> np.ndarray:
    """What a mirror model got to see."""
    tagger = open_tagger(str(folder), "cpu")
    [answer] = tagger.probabilities(np.stack([tagger.prepare(picture)]))
    return answer


def test_wd_models_see_bgr_on_a_white_square(tmp_path: Path) -> None:
    answer = seen(write_mirror(tmp_path), two_colored())
    assert answer.reshape(SIDE, SIDE, 3) * 255 == pytest.approx(squared()[:, :, ::-1], abs=1e-3)


def test_models_with_channels_first_see_minus_one_to_one(tmp_path: Path) -> None:
    folder = write_mirror(tmp_path, ("batch", 3, SIDE, SIDE), line=(0.5, 0.5))
    answer = seen(folder, two_colored()).reshape(3, SIDE, SIDE)
    assert answer * 255 == pytest.approx(squared()[:, :, ::-1].transpose(2, 0, 1), abs=1e-3)


def test_logits_become_probabilities(tmp_path: Path) -> None:
    answer = seen(write_mirror(tmp_path, line=(1 / 255, -2)), two_colored()).reshape(SIDE, SIDE, 3)
    assert answer == pytest.approx(1 / (1 + np.exp(2 - squared()[:, :, ::-1] / 255)), abs=1e-5)


def test_deepdanbooru_sees_rgb_with_its_edges_drawn_out(tmp_path: Path) -> None:
    folder = write_mirror(tmp_path, line=(1, 0))
    (folder / "selected_tags.csv").unlink()
    names = [f"tag_{number}" for number in range(3 * SIDE * SIDE - 1)]
    (folder / "tags.txt").write_text("\n".join([*names, "rating:safe"]))
    (folder / "tags-character.txt").write_text("tag_3\n")
    pixels = np.broadcast_to(squared()[1], (SIDE, SIDE, 3)) / 255
    assert seen(folder, two_colored()).reshape(SIDE, SIDE, 3) == pytest.approx(pixels, abs=1e-5)
    tagger = open_tagger(str(folder))
    assert tagger.tags[2:4] == (Tag("tag_2", 0), Tag("tag_3", 4)) and tagger.tags[-1] == Tag("rating:safe", 9)


@given(width=st.integers(1, 90), height=st.integers(1, 90), side=st.integers(8, 48))
def test_any_size_becomes_a_square_with_the_picture_in_its_middle(width: int, height: int, side: int) -> None:
    picture = Image.new("RGB", (width, height), RED)
    white = wd_pixels(picture, side)
    drawn_out = danbooru_pixels(picture, side)
    assert white.shape == drawn_out.shape == (side, side, 3) and white.dtype == drawn_out.dtype == np.float32
    assert np.allclose(drawn_out, np.array(RED) / 255, atol=1e-6)
    longest = max(width, height)
    weight = (255 - white[:, :, 0]) / (255 - RED[2])  # 1 where the picture is, 0 on the white
    assert weight.mean() == pytest.approx(width * height / longest**2, abs=0.05)
    middle = (side - 1) / 2
    for axis in (0, 1):
        centre = weight.sum(axis=1 - axis) @ np.arange(side) / weight.sum()
        assert centre == pytest.approx(middle, abs=0.5 * side / longest + 0.1)


@pytest.mark.parametrize("pixels_for", [wd_pixels, danbooru_pixels])
def test_large_pictures_are_averaged_and_small_ones_enlarged(pixels_for: Callable[..., np.ndarray]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    largest = pixels_for(Image.new("RGB", (8, 8), "white"), 8).max()
    assert noise.std() > 70
    assert pixels_for(Image.fromarray(noise), 8).std() / largest < 12 / 255
    assert pixels_for(Image.fromarray(noise), 192).std() / largest > 40 / 255


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (SIDE, SIDE), (*RED, 0))
    picture.paste((*RED, 255), (0, 0, 2, SIDE))
    picture.save(tmp_path / "a.png")
    pixels = wd_pixels(read_picture(tmp_path / "a.png"), SIDE)
    assert (pixels[:, :2] == RED[::-1]).all() and (pixels[:, 2:] == 255).all()


@pytest.mark.parametrize(
    ("shape", "half", "form"),
    [
        (("batch", SIDE, SIDE, 3), False, Form(SIDE, False, None, False)),
        ((2, SIDE, SIDE, 3), False, Form(SIDE, False, 2, False)),
        ((1, 3, SIDE, SIDE), False, Form(SIDE, True, 1, False)),
        (("batch", SIDE, SIDE, 3), True, Form(SIDE, False, None, False)),
    ],
)
def test_every_shape_and_number_format(tmp_path: Path, shape: tuple[str | int, ...], half: bool, form: Form) -> None:
    tagger = open_tagger(str(write_mirror(tmp_path, shape, (0.5, 0.5) if shape[1] == 3 else (1 / 255, 0), half)), "cpu")
    assert tagger.form == form
    inputs = np.stack([tagger.prepare(Image.new("RGB", (5, 5), (level, level, level))) for level in (0, 100, 200)])
    answers = tagger.probabilities(inputs)
    assert answers.shape == (3, 3 * SIDE * SIDE) and answers.dtype == np.float32
    alone = np.concatenate([tagger.probabilities(each[None]) for each in inputs])
    assert np.array_equal(answers, alone)
    assert len({float(answer.mean()) for answer in answers}) == 3


def test_of_several_outputs_the_probabilities_count(tmp_path: Path) -> None:
    tagger = open_tagger(str(write_colorist(tmp_path)), "cpu")
    [answer] = tagger.probabilities(np.stack([tagger.prepare(Image.new("RGB", (9, 9), RED))]))
    assert dict(zip([tag.name for tag in tagger.tags], answer * 255, strict=True)) == pytest.approx(
        {"blue": RED[2], "green": RED[1], "red": RED[0]}, abs=0.01
    )


def test_a_model_of_any_size_gets_the_usual_one(tmp_path: Path) -> None:
    write_colorist(tmp_path)
    nodes = [helper.make_node("ReduceMean", ["input"], ["output"], axes=[1, 2], keepdims=0)]
    write_model(tmp_path / "model.onnx", nodes, ("batch", "height", "width", 3), {"output": ["batch", 3]})
    assert open_tagger(str(tmp_path)).form.side == 448


def remove(name: str) -> Callable[[Path], object]:
    """A folder without one of its files."""
    return lambda folder: (folder / name).unlink()


def shaped(*shape: int | str) -> Callable[[Path], object]:
    """A folder whose model takes something else."""
    nodes = [helper.make_node("Reshape", ["input", "flat"], ["output"])]
    return lambda folder: write_model(folder / "model.onnx", nodes, shape, {"output": ["batch", "tags"]})


def not_finite(folder: Path) -> Path:
    """A model that gives the logarithm of nothing."""
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Neg", ["mean"], ["negative"]),
        helper.make_node("Log", ["negative"], ["output"]),
    ]
    return write_model(folder / "model.onnx", nodes, ("batch", SIDE, SIDE, 3), {"output": ["batch", 3]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove("selected_tags.csv"), "has no selected_tags.csv"),
        (remove("model.onnx"), "has no model.onnx"),
        (lambda folder: (folder / "model.onnx").write_text("no model"), "onnxruntime cannot open"),
        (lambda folder: write_tags(folder / "selected_tags.csv", ["a", "b"]), "gives 3 and 3 numbers, .* has 2 tags"),
        (lambda folder: (folder / "selected_tags.csv").write_bytes(b"tag_id,name,category\n1,\xff,0"), "UTF-8"),
        (shaped("batch", 8, 6, 3), "takes square pictures"),
        (shaped("batch", 8, 8, 4), "takes square pictures"),
        (shaped("batch", 3), "takes square pictures"),
        (not_finite, "not finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    tmp_path: Path, change: Callable[[Path], object], words: str
) -> None:
    change(write_colorist(tmp_path))
    with pytest.raises(InputError, match=words) as caught:
        open_tagger(str(tmp_path), "cpu")
    assert len(caught.value.sentences) == 1


def test_a_model_of_another_name_is_found_if_it_is_the_only_one(tmp_path: Path) -> None:
    write_colorist(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / "wd.onnx")
    assert len(open_tagger(str(tmp_path)).tags) == 3
    (tmp_path / "other.onnx").write_bytes((tmp_path / "wd.onnx").read_bytes())
    with pytest.raises(InputError, match=r"other\.onnx, wd\.onnx"):
        open_tagger(str(tmp_path))


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="has no cuda"):
        open_tagger(str(write_colorist(tmp_path)), "cuda")


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "a/b/c", "/no/where"])
def test_a_folder_that_is_not_there_is_no_hub_id(name: str) -> None:
    with pytest.raises(InputError, match="is no folder here; name one"):
        open_tagger(name)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a file"):
        open_tagger(str(write_colorist(tmp_path) / "model.onnx"))


def test_models_come_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def have(repository: str, allow_patterns: list[str], **options: object) -> str:
        asked.extend([repository, *allow_patterns])
        return str(write_colorist(tmp_path))

    monkeypatch.setattr("huggingface_hub.snapshot_download", have)
    assert len(open_tagger("someone/wd-tagger").tags) == 3
    assert asked[0] == "someone/wd-tagger" and {"model.onnx", "selected_tags.csv"} < set(asked)

    def lack(repository: str, **options: object) -> str:
        raise ConnectionError("no way out.\nmore lines")

    monkeypatch.setattr("huggingface_hub.snapshot_download", lack)
    with pytest.raises(InputError, match=r"someone/wd-tagger .* \(no way out\); .* download its model.onnx"):
        open_tagger("someone/wd-tagger")


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_a_folder_goes_through_in_order_and_bad_files_stay_in_it(tmp_path: Path, batch_size: int) -> None:
    tagger = open_tagger(str(write_colorist(tmp_path / "model")), "cpu")
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        Image.new("RGB", (10 + number, 8), (40 * number, 0, 0)).save(path)
    paths[2].write_text("no picture")
    paths[5].write_bytes(paths[4].read_bytes()[:-40])
    found = list(tag_pictures(tagger, paths, batch_size))
    assert [path for path, _ in found] == paths
    assert [isinstance(item, Exception) for _, item in found] == [False, False, True, False, False, True]
    alone = [tagger.probabilities(tagger.prepare(read_picture(paths[n]))[None])[0] for n in (0, 1, 3, 4)]
    good = [item for _, item in found if not isinstance(item, Exception)]
    assert np.stack(good) == pytest.approx(np.stack(alone), abs=1e-6)
    assert len({answer.tobytes() for answer in good}) == 4
