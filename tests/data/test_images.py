"""Pixels: a picture covers its bucket, is cut to the middle and mirrored where that is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from library.data.buckets import Placing, cover
from library.data.decoding import examine
from library.data.folders import Subset
from library.data.images import crop_box, fit, load_pixels
from library.data.pictures import Picture
from library.errors import InputError
from tests.data.samples import draw

SIDES = st.integers(1, 400)


def picture_of(path: Path, placing: Placing) -> Picture:
    """What the dataset would know of a file."""
    facts = examine(path)
    return Picture(path, *facts, placing, "", False, Subset(image_dir=path.parent))


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
    pixels = load_pixels(picture_of(path, Placing((24, 16), (24, 16))), flip=False)
    assert torch.equal((pixels + 1) * 127.5, torch.from_numpy(upright).permute(2, 0, 1).float())


@given(SIDES, SIDES, SIDES, SIDES)
def test_the_crop_is_the_middle(width: int, height: int, w: int, h: int) -> None:
    placing = Placing(cover((width, height), (w, h)), (w, h))
    left, top, right, bottom = crop_box(placing)
    assert (right - left, bottom - top) == (w, h)
    assert left >= 0 and top >= 0
    assert 0 <= placing.resized[0] - right - left <= 1
    assert 0 <= placing.resized[1] - bottom - top <= 1


def test_pixels_are_the_middle_in_range_and_mirrored(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png", (40, 30), seed=3)
    picture = picture_of(path, Placing((40, 30), (32, 24)))
    pixels = load_pixels(picture, flip=False)
    assert pixels.shape == (3, 24, 32) and pixels.dtype == torch.float32
    whole = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 127.5 - 1
    assert torch.equal(pixels, whole[:, 3:27, 4:36])
    assert pixels.min() >= -1 and pixels.max() <= 1
    assert torch.equal(load_pixels(picture, flip=True), pixels.flip(2))


def test_shrinking_averages() -> None:
    checks = Image.fromarray((np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)).convert("RGB")
    small = np.array(fit(checks, Placing((32, 32), (32, 32))))
    assert abs(small.astype(int) - 127).max() <= 2


def test_a_picture_that_goes_away_is_named(tmp_path: Path) -> None:
    picture = picture_of(draw(tmp_path / "gone.png"), Placing((48, 40), (48, 40)))
    picture.path.unlink()
    with pytest.raises(InputError, match=r"gone\.png cannot be read any more"):
        load_pixels(picture, flip=False)
