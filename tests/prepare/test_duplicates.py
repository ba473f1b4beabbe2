"""Copies are found whatever was done to them, and different pictures are left alone."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from library.prepare.duplicates import (
    CROPS,
    NEAR_BITS,
    VARIANTS,
    close_hashes,
    exact_groups,
    fingerprint,
    near_groups,
)
from tests.prepare.patients import PHOTOS, draw, photo


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    """The picture as a JPEG of this quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def cropped(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    """The picture without these parts of its sides."""
    width, height = image.size
    box = (width * left, height * top, width * (1 - right), height * (1 - bottom))
    return image.crop(tuple(map(round, box)))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "twice the size": lambda image: image.resize((image.width * 2, image.height * 2)),
    "a thumbnail": lambda image: image.resize((80, 60)),
    "another shape": lambda image: image.resize((512, 400)),
    "recompressed": lambda image: recompressed(image, 25),
    "mirrored": ImageOps.mirror,
    "cropped": lambda image: cropped(image, 0.05, 0.05, 0.05, 0.05),
    "cropped on one side": lambda image: cropped(image, 0.09, 0, 0, 0),
    "everything": lambda image: recompressed(
        ImageOps.mirror(cropped(image, 0.03, 0, 0.04, 0.05)).resize((256, 256)), quality=50
    ),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_photographs_are_found_and_nothing_else(copy: str) -> None:
    originals = [photo(name) for name in PHOTOS]
    prints = [fingerprint(image) for image in (*originals, *map(COPIES[copy], originals))]
    assert near_groups(prints) == [[0, 3], [1, 4], [2, 5]]


@given(st.integers(0, 2), *[st.floats(0, 0.06)] * 4, st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_slight_crop_is_found_either_way_round(
    number: int, left: float, top: float, right: float, bottom: float, mirrored: bool, first: bool
) -> None:
    whole = photo(PHOTOS[number])
    part = cropped(whole, left, top, right, bottom)
    prints = [fingerprint(whole), fingerprint(ImageOps.mirror(part) if mirrored else part)]
    assert near_groups(prints if first else prints[::-1]) == [[0, 1]]


def test_different_pictures_are_left_alone() -> None:
    """Ninths of photographs, which share their colours and textures, and drawings of rectangles."""
    corners = [(x / 3, y / 3, (2 - x) / 3, (2 - y) / 3) for x in range(3) for y in range(3)]
    tiles = [cropped(photo(name), *corner) for name in PHOTOS for corner in corners]
    drawings = [draw(seed) for seed in range(150)]
    assert near_groups([fingerprint(image) for image in tiles + drawings]) == []


def test_a_chain_of_copies_is_one_group() -> None:
    image = photo("chelsea")
    steps = [cropped(image, cut, 0, 0, 0) for cut in (0, 0.08, 0.16)]
    prints = [fingerprint(each) for each in (photo("coffee"), *steps)]
    assert near_groups(prints) == [[1, 2, 3]]


def test_plain_pictures_are_the_same_only_in_the_same_colour() -> None:
    colours = ("white", "red", "#fefefe", "blue", "red")
    prints = [fingerprint(Image.new("RGB", (40, 30), colour)) for colour in colours]
    assert near_groups(prints) == [[0, 2], [1, 4]]


def test_many_copies_of_one_picture_are_one_group() -> None:
    prints = [fingerprint(draw(1))] * 300 + [fingerprint(draw(2))]
    assert near_groups(prints) == [list(range(300))]
    assert near_groups(prints[:1]) == near_groups([]) == []


def test_the_hash_of_a_mirrored_picture_is_known_without_mirroring_it() -> None:
    half = len(CROPS)
    for name in PHOTOS:
        straight, turned = (fingerprint(image).hashes for image in (photo(name), ImageOps.mirror(photo(name))))
        for one, other in zip(straight[half:] + straight[:half], turned, strict=True):
            assert (one ^ other).bit_count() <= 2


@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * VARIANTS), min_size=2, max_size=12), st.data())
@settings(max_examples=50, deadline=None)
def test_the_search_finds_exactly_the_close_pairs(rows: list[tuple[int, ...]], data: st.DataObject) -> None:
    near = [list(row) for row in rows]
    changes = st.sampled_from([0, 1, 2**63, 2**14 - 1, 2**15 - 1])
    for row in near:  # some become nearly equal to the first
        if data.draw(st.booleans()):
            row[data.draw(st.integers(0, VARIANTS - 1))] = near[0][0] ^ data.draw(changes)
    found = set()
    for place, others, mirrored in close_hashes(np.array(near, dtype=np.uint64)):
        found |= {(min(place, other), max(place, other), mirrored) for other in others.tolist()}
    wanted = set()
    for one in range(len(near)):
        for other in range(len(near)):
            for variant in range(VARIANTS):
                if one != other and (near[one][variant] ^ near[other][0]).bit_count() <= NEAR_BITS:
                    wanted.add((min(one, other), max(one, other), variant >= len(CROPS)))
    assert found == wanted


def test_equal_names_are_grouped_in_order() -> None:
    assert exact_groups(["b", "a", "b", "c", "a", "b"]) == [[0, 2, 5], [1, 4]]
    assert exact_groups([]) == []
