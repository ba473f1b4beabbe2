"""The measures of one picture: what they say of photographs, and that neither size nor contrast moves them."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageFilter
from scipy import ndimage

from library.data.decoding import examine
from library.prepare.looks import CELL_RANGE, THUMBNAIL_SIDE, detail, look_at, softness
from library.prepare.picture_checks import BLURRED, BRIGHT, DARK, GREY, PLAIN
from tests.prepare.patients import PHOTOS, draw, photo, save


def grey(name: str) -> np.ndarray:
    """A photograph as levels of grey."""
    return np.asarray(photo(name).convert("L"), dtype=np.float32)


def blurred(name: str, sigma: float) -> np.ndarray:
    """A photograph through a Gaussian, in whole levels as a file has them."""
    return np.round(ndimage.gaussian_filter(grey(name), sigma))


@pytest.mark.parametrize("name", PHOTOS)
def test_the_blur_of_a_photograph_is_measured_in_pixels(name: str) -> None:
    assert softness(grey(name)) < 0.8 < BLURRED
    for sigma in (1.5, 2.0, 3.0):
        assert softness(blurred(name, sigma)) == pytest.approx(sigma, rel=0.25)
    assert softness(blurred(name, 6.0)) > 3


@pytest.mark.parametrize("name", PHOTOS)
def test_contrast_and_compression_hardly_move_the_measure(name: str) -> None:
    sharp = softness(grey(name))
    assert softness(grey(name) * 0.4 + 70) == pytest.approx(sharp, abs=0.1)
    file = io.BytesIO()
    photo(name).convert("L").save(file, "JPEG", quality=40)
    assert softness(np.asarray(Image.open(file), dtype=np.float32)) == pytest.approx(sharp, abs=0.25)


@pytest.mark.parametrize("sigma", [0.0, 3.0])
def test_the_size_of_a_picture_does_not_matter(sigma: float, tmp_path: Path) -> None:
    """Four times the pixels with twice the blur are the same picture in training."""
    small = photo("astronaut").filter(ImageFilter.GaussianBlur(sigma))
    large = photo("astronaut").resize((1024, 1024)).filter(ImageFilter.GaussianBlur(2 * sigma))
    measured = [look_at(save(image, tmp_path / "a.png")).softness for image in (small, large)]
    assert measured[0] == pytest.approx(measured[1], abs=0.4)
    assert [value >= BLURRED for value in measured] == [sigma > 0] * 2


def test_motion_is_blur_and_a_background_out_of_focus_is_none() -> None:
    picture = grey("chelsea")
    for axis in (0, 1):
        assert softness(ndimage.uniform_filter1d(picture, 13, axis=axis)) > BLURRED
    picture[:, 200:] = ndimage.gaussian_filter(picture, 8)[:, 200:]
    assert softness(picture) < BLURRED


def test_where_there_are_no_edges_nothing_is_said_about_blur() -> None:
    assert softness(np.full((64, 64), 120, dtype=np.float32)) is None
    assert softness(np.zeros((1, 1), dtype=np.float32)) is None


def test_detail_is_the_part_that_shows_something() -> None:
    picture = np.zeros((128, 128, 3), dtype=np.float32)
    assert detail(picture) == 0
    picture[:64, :64, 1] = np.indices((64, 64)).sum(axis=0) % 2 * (CELL_RANGE + 1)
    assert detail(picture) == 0.25


def test_what_photographs_look_like(tmp_path: Path) -> None:
    for name in PHOTOS:
        fine = look_at(save(photo(name), tmp_path / "a.png"))
        assert fine.brightest > DARK and fine.darkest < BRIGHT and fine.colour > GREY and fine.detail > 0.8
    dark = look_at(save(ImageEnhance.Brightness(photo("coffee")).enhance(0.2), tmp_path / "a.png"))
    assert dark.brightest < DARK and dark.detail > PLAIN
    washed = look_at(save(Image.eval(photo("coffee"), lambda level: 215 + level // 7), tmp_path / "a.png"))
    assert washed.darkest > BRIGHT
    monochrome = look_at(save(photo("coffee").convert("L"), tmp_path / "a.jpg"))
    assert monochrome.colour <= GREY
    empty = look_at(save(Image.new("RGB", (300, 200), (200, 10, 10)), tmp_path / "a.jpg"))
    assert empty.detail < PLAIN and empty.colour > GREY
    assert look_at(save(draw(1), tmp_path / "a.png")).softness < BLURRED


KINDS = {
    "16 bit": lambda image: Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
    "palette": lambda image: image.convert("P"),
    "CMYK": lambda image: image.convert("CMYK"),
    "transparent": lambda image: image.convert("RGBA"),
    "grey": lambda image: image.convert("L"),
    "large": lambda image: image.resize((2400, 2200)),
    "large, palette": lambda image: image.resize((2400, 2200)).convert("P"),
    "large, 16 bit": lambda image: Image.fromarray(
        np.asarray(image.resize((2400, 2200)).convert("L")).astype(np.uint16) * 257
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_picture_is_measured_and_sized_as_training_does(kind: str, tmp_path: Path) -> None:
    path = save(KINDS[kind](photo("astronaut")), tmp_path / ("a.tif" if kind == "CMYK" else "a.png"))
    seen = look_at(path)
    assert (seen.sha256, seen.width, seen.height) == tuple(examine(path))[:3]
    assert seen.brightness == pytest.approx(0.45, abs=0.03)
    assert seen.detail > 0.8


def test_a_turned_picture_has_its_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    seen = look_at(save(draw(0, (60, 40)), tmp_path / "a.jpg", exif=exif))
    assert (seen.width, seen.height) == (40, 60)


@given(st.integers(1, 200), st.integers(1, 200))
@settings(max_examples=25, deadline=None)
def test_any_size_can_be_looked_at(tmp_path_factory: pytest.TempPathFactory, width: int, height: int) -> None:
    seen = look_at(save(draw(3, (width, height)), tmp_path_factory.mktemp("a") / "a.png"), thumbnail=True)
    assert (seen.width, seen.height) == (width, height)
    assert seen.softness is None or seen.softness >= 0
    assert Image.open(io.BytesIO(seen.thumbnail)).size == (width, height) or max(width, height) > THUMBNAIL_SIDE


def test_thumbnails_are_small_and_made_only_if_asked_for(tmp_path: Path) -> None:
    path = save(photo("coffee"), tmp_path / "a.png")
    assert look_at(path).thumbnail == b""
    thumbnail = look_at(path, thumbnail=True).thumbnail
    with Image.open(io.BytesIO(thumbnail)) as image:
        assert (image.format, image.size) == ("JPEG", (192, 128))
    assert len(thumbnail) < 16_000


def test_what_is_broken_says_why(tmp_path: Path) -> None:
    path = save(photo("coffee"), tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ValueError, match="truncated"):
        look_at(path)
    path.write_text("<html>")
    with pytest.raises(ValueError, match="not a picture"):
        look_at(path)
    with pytest.raises(ValueError, match="No such file"):
        look_at(tmp_path / "gone.png")
