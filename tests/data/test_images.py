"""Pixels: every kind of picture becomes upright RGB on white, covers its bucket and is cut to the middle."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from library.data.buckets import Placing, cover
from library.data.folders import EXTENSIONS, Subset
from library.data.images import crop_box, examine, fit, flatten, load_pixels, read_upright
from library.data.pictures import Picture
from library.errors import InputError
from tests.data.samples import draw

SIDES = st.integers(1, 400)


def bytes_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """A picture file in memory."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def picture_of(path: Path, placing: Placing) -> Picture:
    """What the dataset would know of a file."""
    facts = examine(path)
    return Picture(path, *facts, placing, "", False, Subset(image_dir=path.parent))


def colour_of(content: bytes) -> tuple[int, ...]:
    """The colour of a one-coloured picture after reading."""
    image = flatten(read_upright(content))
    assert image.mode == "RGB"
    return image.getpixel((1, 1))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE), (10, 20, 30)),
        (Image.fromarray(np.full((4, 4), 257 * 50, np.uint16)), (50, 50, 50)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), (255, 255, 255)),
    ],
    ids=["rgb", "grey", "bit", "clear", "fifth", "grey-clear", "palette", "grey16", "grey16-white"],
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert colour_of(bytes_of(image)) == expected


def test_a_transparent_colour_of_a_palette_or_rgb_is_white() -> None:
    palette = Image.new("RGB", (4, 4), (10, 20, 30)).quantize(2)
    assert colour_of(bytes_of(palette, transparency=palette.getpixel((1, 1)))) == (255, 255, 255)
    assert colour_of(bytes_of(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)


def test_cmyk_jpeg() -> None:
    red = colour_of(bytes_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


FORMS = ["PNG", "JPEG", "WEBP", "BMP"] + (["AVIF"] if ".avif" in EXTENSIONS else [])


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_examined(tmp_path: Path, form: str) -> None:
    path = tmp_path / "odd name ü.jpg"
    path.write_bytes(bytes_of(Image.new("RGB", (21, 13), "red"), form))
    assert examine(path)[1:] == (21, 13)


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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_spoil_a_picture(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(bytes_of(Image.new("RGB", (8, 8)), "JPEG", exif=exif))
    assert examine(tmp_path / "a.jpg")[1:] == (8, 8)


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


def broken_files() -> dict[str, bytes]:
    """Files that are no whole pictures."""
    noise = Image.effect_noise((64, 64), 90)
    png, jpeg = bytes_of(noise), bytes_of(noise, "JPEG")
    return {
        "empty": b"",
        "text": b"this is no picture",
        "cut png": png[: len(png) // 2],
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "cut webp": bytes_of(noise, "WEBP")[:200],
        "changed png": png[:200] + b"\xff" * 40 + png[240:],
        "only a header": png[:33],
    }


@pytest.mark.parametrize("kind", broken_files())
def test_broken_files_are_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(broken_files()[kind])
    with pytest.raises(ValueError, match=r"\w"):
        examine(tmp_path / "a.png")


def test_a_picture_that_goes_away_is_named(tmp_path: Path) -> None:
    picture = picture_of(draw(tmp_path / "gone.png"), Placing((48, 40), (48, 40)))
    picture.path.unlink()
    with pytest.raises(InputError, match=r"gone\.png cannot be read any more"):
        load_pixels(picture, flip=False)
