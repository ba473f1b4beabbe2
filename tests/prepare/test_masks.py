"""The arithmetic of masks against plain definitions of it, and laws that hold for every mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from library.prepare.masks import (
    MODES,
    Mask,
    Recipe,
    blur,
    grow,
    invert,
    merged,
    shaped,
    shrink,
    threshold,
    with_floor,
)


@st.composite
def masks(draw: st.DrawFn, count: int = 1) -> list[Mask]:
    """Masks of one size, from a single pixel on; some soft, some black and white."""
    size = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0.02, 0.5, 0.98]))
    hard = [np.where(random.random(size) < share, 255, 0).astype(np.uint8) for _ in range(count)]
    soft = [random.integers(0, 256, size, np.uint8) for _ in range(count)]
    return draw(st.sampled_from([hard, soft]))


def disc(pixels: int) -> np.ndarray:
    """Which places are no further than `pixels` from the middle."""
    down, across = np.mgrid[-pixels : pixels + 1, -pixels : pixels + 1]
    return down**2 + across**2 <= pixels**2


@given(mask=masks(), pixels=st.integers(0, 8))
def test_growing_and_shrinking_are_those_of_a_disc(mask: list[Mask], pixels: int) -> None:
    before = mask[0].copy()
    grown = ndimage.grey_dilation(mask[0], footprint=disc(pixels), mode="constant", cval=0)
    shrunk = ndimage.grey_erosion(mask[0], footprint=disc(pixels), mode="constant", cval=255)
    np.testing.assert_array_equal(grow(mask[0], pixels), grown)
    np.testing.assert_array_equal(shrink(mask[0], pixels), shrunk)
    np.testing.assert_array_equal(mask[0], before)


@given(mask=masks())
def test_growing_by_more_than_the_picture_fills_it(mask: list[Mask]) -> None:
    assert grow(mask[0], 90).min() == mask[0].max() == grow(mask[0], 90).max()
    assert shrink(mask[0], 90).max() == mask[0].min()


def test_a_subject_at_the_picture_s_edge_does_not_shrink_from_it() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[:, :10] = 255
    assert (shrink(mask, 3)[:, :7] == 255).all() and (shrink(mask, 3)[:, 7:] == 0).all()


@pytest.mark.parametrize("pixels", [1, 3.5, 8])
def test_blurring_is_gaussian(pixels: float) -> None:
    mask = np.zeros((80, 120), np.uint8)
    mask[20:60, 30:70] = 255
    expected = ndimage.gaussian_filter(mask.astype(float), pixels, mode="nearest")
    assert np.abs(blur(mask, pixels) - expected).max() < 8
    assert np.abs(blur(mask, pixels) - expected).mean() < 1


@given(mask=masks(), pixels=st.floats(0, 60))
def test_blurring_stays_between_the_darkest_and_the_brightest(mask: list[Mask], pixels: float) -> None:
    soft = blur(mask[0], pixels)
    assert soft.shape == mask[0].shape and soft.dtype == np.uint8
    assert mask[0].min() <= soft.min() and soft.max() <= mask[0].max()


def test_no_blur_changes_nothing() -> None:
    mask = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)
    np.testing.assert_array_equal(blur(mask, 0), mask)


def test_a_threshold_is_a_share_of_white() -> None:
    mask = np.array([[0, 76, 77, 255]], np.uint8)
    assert threshold(mask, 0.3).tolist() == [[0, 0, 255, 255]]
    assert threshold(mask, 1).tolist() == [[0, 0, 0, 255]]


def test_a_floor_lifts_the_background_only() -> None:
    assert with_floor(np.array([[0, 20, 26, 255]], np.uint8), 0.1).tolist() == [[26, 26, 26, 255]]


OLD, NEW = np.array([[0, 0, 200, 255]], np.uint8), np.array([[0, 255, 100, 255]], np.uint8)


@pytest.mark.parametrize(
    ("mode", "together", "alone"),
    [
        ("skip", [0, 255, 100, 255], [0, 255, 100, 255]),
        ("overwrite", [0, 255, 100, 255], [0, 255, 100, 255]),
        ("add", [0, 255, 200, 255], [0, 255, 100, 255]),
        ("subtract", [0, 0, 155, 0], [255, 0, 155, 0]),
        ("intersect", [0, 0, 100, 255], [0, 255, 100, 255]),
    ],
)
def test_modes(mode: str, together: list[int], alone: list[int]) -> None:
    assert merged(OLD, NEW, mode).tolist() == [together]
    assert merged(None, NEW, mode).tolist() == [alone]


def test_there_are_no_other_modes() -> None:
    assert MODES == ("skip", "overwrite", "add", "subtract", "intersect")


@given(pair=masks(2), mode=st.sampled_from(MODES), has_old=st.booleans(), floor=st.floats(0, 0.9))
def test_to_do_it_again_changes_nothing(pair: list[Mask], mode: str, has_old: bool, floor: float) -> None:
    old, new = pair
    once = with_floor(merged(old if has_old else None, new, mode), floor)
    np.testing.assert_array_equal(with_floor(merged(once, new, mode), floor), once)


@given(pair=masks(2))
def test_subtracting_is_intersecting_with_the_rest(pair: list[Mask]) -> None:
    old, new = pair
    np.testing.assert_array_equal(merged(old, new, "subtract"), merged(old, invert(new), "intersect"))


@given(mask=masks())
def test_a_recipe_without_wishes_leaves_a_mask_as_it_is(mask: list[Mask]) -> None:
    np.testing.assert_array_equal(shaped(mask[0], Recipe()), mask[0])


def test_the_order_of_a_recipe() -> None:
    """What was found grows before it is turned round, so that `grow` and `invert` leave a margin around it."""
    found = np.zeros((1, 11), np.uint8)
    found[0, 5] = 140
    white, black = 255, 0
    expected = [white] * 3 + [black] * 5 + [white] * 3
    assert shaped(found, Recipe(threshold=0.5, grow=2, invert=True)).tolist() == [expected]
    assert shaped(found, Recipe(threshold=0.6, grow=2, invert=True)).min() == white
    assert shaped(found, Recipe(threshold=0.5, grow=2, shrink=2)).tolist() == threshold(found, 0.5).tolist()
    soft = shaped(found, Recipe(threshold=0.5, grow=2, invert=True, blur=1))
    assert 0 < soft[0, 2] < white and soft[0, 5] < 20
