"""Pixels and masks: upright, covering their bucket, cut, recoloured and mirrored as a view asks."""

import colorsys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from library.data.buckets import Placing
from library.data.decoding import examine
from library.data.folders import Subset
from library.data.images import load_masks, load_pixels, recolour, show
from library.data.pictures import Mask, Picture
from library.data.views import Colour, View, view_of
from library.errors import InputError
from tests.data.samples import draw

SEEDS = st.integers(0, 2**63 - 1)


def picture_of(path: Path, placing: Placing, **subset: object) -> Picture:
    """What the dataset would know of a file."""
    facts = examine(path)
    return Picture(path, *facts, placing, "", False, Subset(image_dir=path.parent, **subset))


def plain(picture: Picture, flip: bool = False) -> View:
    """The view of a picture where nothing is left to chance."""
    return view_of(picture, 0, flip)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    undo = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](upright)))
    path = tmp_path / "a.png"
    stored.save(path, exif=exif)
    assert examine(path)[1:] == (24, 16)
    picture = picture_of(path, Placing((24, 16), (24, 16)))
    (pixels,) = load_pixels(picture, [plain(picture)])
    assert torch.equal((pixels + 1) * 127.5, torch.from_numpy(upright).permute(2, 0, 1).float())


def test_pixels_are_the_part_that_a_view_asks_for(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", (40, 30), seed=3)
    picture = picture_of(path, Placing((40, 30), (32, 24)))
    corner = plain(picture)._replace(corner=(8, 0))
    middle, mirrored, other = load_pixels(picture, [plain(picture), plain(picture, flip=True), corner])
    assert middle.shape == (3, 24, 32) and middle.dtype == torch.float32 and middle.is_contiguous()
    whole = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 127.5 - 1
    assert torch.equal(middle, whole[:, 3:27, 4:36])
    assert torch.equal(mirrored, middle.flip(2))
    assert torch.equal(other, whole[:, :24, 8:40])
    assert middle.min() >= -1 and middle.max() <= 1


@pytest.mark.parametrize("name", ["lanczos", "area", "bicubic", "bilinear", "box"])
def test_shrinking_averages(tmp_path: Path, name: str) -> None:
    checks = Image.fromarray((np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    checks.save(tmp_path / "a.png")
    picture = picture_of(tmp_path / "a.png", Placing((32, 32), (32, 32)), resize_interpolation=name)
    small = np.array(show(checks, plain(picture)))
    assert abs(small.astype(int) - 127).max() <= 2


def test_each_interpolation_is_its_own(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", (64, 64), seed=1)
    shown = {}
    for name in ("lanczos", "area", "bicubic", "bilinear", "nearest", "box"):
        picture = picture_of(path, Placing((24, 24), (24, 24)), resize_interpolation=name)
        shown[name] = load_pixels(picture, [plain(picture)])[0]
    assert torch.equal(shown["area"], shown["box"])
    assert len({pixels.numpy().tobytes() for pixels in shown.values()}) == 5
    source = np.array(Image.open(path)).reshape(-1, 3).tolist()
    assert all(pixel in source for pixel in ((shown["nearest"] + 1) * 127.5).round().int().flatten(1).T.tolist())


def test_hue_turns_and_gamma_bends() -> None:
    image = Image.new("RGB", (2, 2), (200, 40, 40))
    turned = np.array(recolour(image, Colour(hue=11)))[0, 0]
    hue, _, value = colorsys.rgb_to_hsv(*turned / 255)
    assert hue == pytest.approx(11 / 256, abs=0.006) and value == pytest.approx(200 / 255, abs=0.01)
    back = np.array(recolour(image, Colour(hue=-11)))[0, 0]
    assert back[2] > back[1]
    bright, dark = (np.array(recolour(image, Colour(gamma=gamma)))[0, 0] for gamma in (95, 105))
    assert (bright > dark).all() and bright.tolist() == [round(255 * (c / 255) ** 0.95) for c in (200, 40, 40)]
    assert recolour(image, Colour()) is image


def test_a_picture_that_goes_away_is_named(tmp_path: Path) -> None:
    picture = picture_of(draw(tmp_path / "gone.png"), Placing((48, 40), (48, 40)))
    picture.path.unlink()
    with pytest.raises(InputError, match=r"gone\.png cannot be read any more"):
        load_pixels(picture, [plain(picture)])


def masked(path: Path, mask: np.ndarray, placing: Placing, **subset: object) -> Picture:
    """A picture with a mask beside it."""
    file = path.with_name(f"{path.stem}-masklabel.png")
    Image.fromarray(mask).save(file)
    return replace(picture_of(path, placing, **subset), mask=Mask(file, "mask's content"))


def test_masks_are_averaged_over_each_latent(tmp_path: Path) -> None:
    mask = np.zeros((32, 64), np.uint8)
    mask[:, 12:] = 255
    picture = masked(draw(tmp_path / "a.png", (64, 32)), mask, Placing((64, 32), (64, 32)))
    straight, mirrored = load_masks(picture, [plain(picture), plain(picture, flip=True)])
    assert straight.shape == (1, 4, 8) and straight.dtype == torch.float32
    assert straight[0, 2].tolist() == [0, 0.5, 1, 1, 1, 1, 1, 1]
    assert torch.equal(mirrored, straight.flip(2))


@given(SEEDS, st.booleans())
def test_masks_are_shown_as_their_pictures(seed: int, flip: bool) -> None:
    """A picture that is its own mask: what is bright in the pixels is bright in the mask."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        grey = np.kron(np.random.default_rng(seed % 99).integers(0, 256, (6, 5)), np.ones((40, 40))).astype(np.uint8)
        path = Path(folder) / "a_90_120_30_30.png"
        Image.fromarray(grey).convert("RGB").save(path)
        chances = {"random_crop": True, "face_crop_aug_range": (1.0, 4.0), "resize_interpolation": "area"}
        picture = masked(path, grey, Placing((100, 120), (64, 96)), **chances)
        view = view_of(picture, seed, flip)
        (pixels,), (mask,) = load_pixels(picture, [view]), load_masks(picture, [view])
        expected = torch.nn.functional.avg_pool2d((pixels[:1] + 1) / 2, 8)
        torch.testing.assert_close(mask, expected, atol=1e-5, rtol=0)


def test_colours_leave_masks_alone(tmp_path: Path) -> None:
    grey = np.full((32, 32), 128, np.uint8)
    picture = masked(draw(tmp_path / "a.png", (32, 32)), grey, Placing((32, 32), (32, 32)))
    (mask,) = load_masks(picture, [plain(picture)._replace(colour=Colour(gamma=95))])
    assert torch.equal(mask, torch.full((1, 4, 4), 128 / 255))


def test_transparency_is_a_mask_and_no_mask_is_white(tmp_path: Path) -> None:
    opaque = np.zeros((16, 16, 4), np.uint8)
    opaque[:, 8:, 3] = 255
    path = tmp_path / "a.png"
    Image.fromarray(opaque).save(path)
    picture = picture_of(path, Placing((16, 16), (16, 16)))
    (white,) = load_masks(picture, [plain(picture)])
    assert torch.equal(white, torch.ones(1, 2, 2))
    (mask,) = load_masks(replace(picture, mask=Mask(path, "", is_alpha=True)), [plain(picture)])
    assert mask.tolist() == [[[0, 1], [0, 1]]]
