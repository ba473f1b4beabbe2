"""Windows: always inside the picture and of the wanted shape; the middle, or where the detail is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from library.prepare.windows import (
    Box,
    around,
    enlargement,
    in_the_middle,
    largest_part,
    scaled,
    with_most_detail,
)

SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
UNIT = st.floats(0, 1)


def check(box: Box, picture: tuple[int, int], size: tuple[int, int]) -> None:
    """A window lies inside, begins on a whole pixel, has the shape of the size, and could not be larger."""
    left, top, right, bottom = box
    assert 0 <= left < right <= picture[0] and 0 <= top < bottom <= picture[1]
    assert left == int(left) and top == int(top)
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1])
    assert right - left == pytest.approx(picture[0]) or bottom - top == pytest.approx(picture[1])


@given(picture=SIZES, size=SIZES, across=UNIT, down=UNIT)
def test_every_window_lies_inside(
    picture: tuple[int, int], size: tuple[int, int], across: float, down: float
) -> None:
    check(around(picture, size, (picture[0] * across, picture[1] * down)), picture, size)
    middle = in_the_middle(picture, size)
    check(middle, picture, size)
    assert 0 <= picture[0] - middle[2] - middle[0] < 2 and 0 <= picture[1] - middle[3] - middle[1] < 2


@given(picture=SIZES, size=SIZES)
def test_the_enlargement_is_that_of_the_largest_part(picture: tuple[int, int], size: tuple[int, int]) -> None:
    assert enlargement(picture, size) == pytest.approx(size[0] / largest_part(picture, size)[0])


@given(picture=SIZES, side=st.integers(1, 3000))
def test_the_shorter_side_is_what_was_asked_for(picture: tuple[int, int], side: int) -> None:
    width, height = scaled(picture, side)
    assert min(width, height) == side
    assert (width <= height) == (picture[0] <= picture[1]) or width == height
    assert max(width, height) == pytest.approx(side * max(picture) / min(picture), abs=0.51)


def test_a_point_at_the_edge_is_not_in_the_middle() -> None:
    assert around((1000, 500), (512, 512), (480, 250)) == (230, 0, 730, 500)
    assert around((1000, 500), (512, 512), (30, 480)) == (0, 0, 500, 500)
    assert around((1000, 500), (512, 512), (970, 0)) == (500, 0, 1000, 500)


def noise(*box: int, size: tuple[int, int] = (800, 400)) -> Image.Image:
    """Grey, with coarse noise in a box."""
    image = Image.new("RGB", size, "grey")
    width, height = box[2] - box[0], box[3] - box[1]
    values = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8), dtype=np.uint8)
    image.paste(Image.fromarray(values).resize((width, height)), box[:2])
    return image


@pytest.mark.parametrize("left", [0, 80, 300, 520, 640])
def test_the_detail_is_found(left: int) -> None:
    box = with_most_detail(noise(left, 100, left + 160, 260), (512, 512))
    check(box, (800, 400), (512, 512))
    assert box[0] <= left + 8 and box[2] >= left + 152
    upright = with_most_detail(noise(left, 100, left + 160, 260).transpose(Image.Transpose.TRANSPOSE), (512, 512))
    assert upright == pytest.approx((box[1], box[0], box[3], box[2]), abs=4)


def test_without_a_difference_it_is_the_middle() -> None:
    middle = (200, 0, 600, 400)
    assert with_most_detail(Image.new("RGB", (800, 400), "red"), (512, 512)) == middle
    assert with_most_detail(noise(0, 0, 800, 400), (512, 512)) == pytest.approx(middle, abs=70)
    stripes = Image.fromarray(np.tile(np.array([0, 0, 0, 0, 255, 255, 255, 255], np.uint8), (400, 100)))
    assert with_most_detail(stripes.convert("RGB"), (512, 512)) == pytest.approx(middle, abs=8)


def test_a_little_more_detail_at_the_edge_is_not_worth_it() -> None:
    image = noise(200, 100, 600, 300)
    image.paste(noise(0, 0, 16, 16, size=(16, 16)), (780, 200))
    assert with_most_detail(image, (512, 512)) == pytest.approx((200, 0, 600, 400), abs=40)


@settings(deadline=None)
@given(picture=st.tuples(st.integers(1, 90), st.integers(1, 90)), size=SIZES, seed=st.integers(0, 9))
def test_any_picture_has_a_part_with_most_detail(picture: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 256, (picture[1], picture[0], 3), dtype=np.uint8)
    check(with_most_detail(Image.fromarray(values), size), picture, size)


@pytest.mark.parametrize("is_left", [True, False])
def test_a_photograph_on_a_wide_empty_ground_is_found(is_left: bool) -> None:
    cat = Image.fromarray(data.chelsea())
    canvas = Image.new("RGB", (1500, 300), (120, 110, 100))
    left = 150 if is_left else 900
    canvas.paste(cat, (left, 0))
    box = with_most_detail(canvas, (451, 300))
    assert box[0] == pytest.approx(left, abs=30)
