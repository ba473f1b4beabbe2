"""Views of pictures: always inside the picture, decided by the seed alone, and nothing by chance unless asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.buckets import place, subset_buckets
from library.data.folders import Subset
from library.data.pictures import Picture
from library.data.views import (
    Colour,
    Face,
    averaging,
    cached_views,
    face_of,
    is_varied,
    middle,
    variant_seed,
    view_of,
)

PLAIN = Subset(
    image_dir=Path("in"), resolution=(64, 64), enable_bucket=True, min_bucket_reso=32, bucket_reso_steps=32
)
CROPS = replace(PLAIN, random_crop=True)
SIDES = st.integers(1, 400)
SEEDS = st.integers(0, 2**63 - 1)
INTERPOLATIONS = ("lanczos", "area", "bicubic", "bilinear", "nearest", "box")


def picture_of(subset: Subset, size: tuple[int, int], name: str = "a") -> Picture:
    """A picture without a file."""
    placing = place(size, subset_buckets(subset), subset)
    return Picture(Path(f"{name}.png"), "content", *size, placing, "", False, subset)


@st.composite
def subsets(draw: st.DrawFn) -> Subset:
    """Any mixture of what decides on views."""
    low = draw(st.floats(0.1, 5))
    return replace(
        PLAIN,
        enable_bucket=draw(st.booleans()),
        bucket_no_upscale=draw(st.booleans()),
        random_crop=draw(st.booleans()),
        color_aug=draw(st.booleans()),
        resize_interpolation=draw(st.sampled_from(INTERPOLATIONS)),
        face_crop_aug_range=draw(st.none() | st.just((low, low + draw(st.just(0.0) | st.floats(0, 5))))),
    )


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """Pictures of any size, some with a face in their name, perhaps one that lies outside."""
    face = draw(st.none() | st.tuples(SIDES, SIDES, SIDES, SIDES))
    name = "a" if face is None else "a_{}_{}_{}_{}".format(*face)
    return picture_of(draw(subsets()), (draw(SIDES), draw(SIDES)), name)


@given(pictures(), SEEDS, st.booleans())
def test_what_is_shown_lies_inside_the_picture(picture: Picture, seed: int, flip: bool) -> None:
    view = view_of(picture, seed, flip)
    assert view.size == picture.size and view.flip == flip
    assert view == view_of(picture, seed, flip)
    for corner, part, whole in zip(view.corner, view.size, view.resized, strict=True):
        assert 0 <= corner <= corner + part <= whole
    ratio = view.resized[0] / view.resized[1] * picture.height / picture.width
    assert 1 / ratio == pytest.approx(1, abs=1 / min(view.resized) + 1e-9) or 1 in (picture.width, picture.height)


@given(pictures(), st.lists(SEEDS, min_size=2, max_size=4), st.integers(1, 6))
def test_chance_has_a_part_only_where_it_is_asked_for(picture: Picture, seeds: list[int], variants: int) -> None:
    if not is_varied(picture.subset):
        assert len({view_of(picture, seed) for seed in seeds}) == 1
        assert len(list(cached_views(picture, variants))) == 1
    colours = {view_of(picture, seed).colour for seed in seeds}
    assert picture.subset.color_aug or colours == {Colour()}
    if not picture.subset.random_crop and not face_of(picture):
        assert all(view_of(picture, seed).is_centred for seed in seeds)


def test_a_random_crop_can_be_anywhere() -> None:
    picture = picture_of(replace(CROPS, enable_bucket=False), (80, 64))
    corners = [view_of(picture, seed).corner for seed in range(400)]
    assert {corner[0] for corner in corners} == set(range(17)) and {corner[1] for corner in corners} == {0}
    assert all(10 <= [corner[0] for corner in corners].count(left) <= 45 for left in range(17))


def test_colours_change_a_third_of_the_time_and_a_little() -> None:
    picture = picture_of(replace(PLAIN, color_aug=True), (64, 64))
    colours = [view_of(picture, seed).colour for seed in range(3000)]
    changed = [colour for colour in colours if colour != Colour()]
    assert 0.27 < len(changed) / len(colours) < 0.36
    hues = [colour.hue for colour in changed if colour.hue]
    assert 0.4 < len(hues) / len(changed) < 0.6
    assert (min(hues), max(hues)) == (-11, 11)
    gammas = {colour.gamma for colour in changed if not colour.hue}
    assert gammas == {95, 96, 97, 98, 99, 101, 102, 103, 104, 105}


def test_the_views_in_a_cache_belong_to_the_content_alone() -> None:
    picture = picture_of(replace(CROPS, flip_aug=True, color_aug=True, enable_bucket=False), (200, 64))
    views = list(cached_views(picture, 3))
    assert views == list(cached_views(replace(picture, path=Path("b.jpg"), caption="c", copy=2), 3))
    assert [view.flip for view in views] == [False, True] * 3
    assert all(one._replace(flip=True) == other for one, other in zip(views[::2], views[1::2], strict=True))
    assert views[:4] == list(cached_views(picture, 2)), "more variants leave the first as they are"
    assert views != list(cached_views(replace(picture, sha256="other"), 3))
    assert variant_seed(picture, 0) != variant_seed(picture, 1)
    assert len(list(cached_views(picture_of(replace(PLAIN, flip_aug=True), (64, 64)), 3))) == 2


@pytest.mark.parametrize(
    ("name", "face"),
    [
        ("x_50_40_20_30", Face(50, 40, 20, 30)),
        ("x_1_2_3_50_40_20_30", Face(50, 40, 20, 30)),
        ("x", None),
        ("x_50_40_20", None),
        ("x_50_40_20_30b", None),
        ("IMG_2024_05_12_0001", None),
        ("x_50_40_0_30", None),
        ("x_50_101_20_30", None),
    ],
)
def test_faces_stand_in_the_name(name: str, face: Face | None) -> None:
    assert face_of(picture_of(PLAIN, (100, 100), name)) == face


def test_a_face_fills_what_the_range_says() -> None:
    """The bucket's shorter side is so many times as long as the face."""
    subset = replace(PLAIN, face_crop_aug_range=(2.0, 4.0))
    picture = picture_of(subset, (1000, 1000), "x_300_600_100_80")
    shares = []
    for seed in range(300):
        view = view_of(picture, seed)
        scale = view.resized[0] / picture.width
        shares.append(min(view.size) / (100 * scale))
        left, top = view.corner
        assert left <= 300 * scale <= left + view.size[0] and top <= 600 * scale <= top + view.size[1]
    assert 1.95 < min(shares) < 2.1 and 3.9 < max(shares) < 4.1


def test_a_face_is_not_enlarged_and_the_picture_still_covers_its_bucket() -> None:
    subset = replace(PLAIN, face_crop_aug_range=(1.0, 1.0))
    assert view_of(picture_of(subset, (300, 300), "x_150_150_10_10"), 1).resized == (300, 300)
    assert view_of(picture_of(subset, (40, 40), "x_20_20_10_10"), 1).resized == (64, 64)
    assert view_of(picture_of(subset, (300, 300), "x_150_150_250_250"), 1).resized == (77, 77)
    assert view_of(picture_of(subset, (300, 300), "x_150_150_300_300"), 1).resized == (64, 64)


def test_a_face_at_the_edge_and_random_crops_around_it() -> None:
    edge = picture_of(replace(PLAIN, face_crop_aug_range=(2.0, 2.0)), (640, 640), "x_2_630_32_32")
    assert view_of(edge, 5) == view_of(edge, 6)
    assert view_of(edge, 5).corner == (0, 640 - 64)
    moved = picture_of(replace(edge.subset, random_crop=True), (640, 640), "x_320_320_32_32")
    lefts = sorted(view_of(moved, seed).corner[0] for seed in range(500))
    assert lefts[0] < 100 and lefts[-1] > 480
    assert 170 < lefts[125] < lefts[375] < 405, "mostly near the face"
    trembling = picture_of(replace(edge.subset, face_crop_aug_range=(2.0, 2.1)), (640, 640), "x_320_320_200_200")
    middles = {view_of(trembling, seed).corner[0] for seed in range(200)}
    assert 2 <= max(middles) - min(middles) <= 40


def test_faces_work_with_buckets() -> None:
    wide = picture_of(replace(PLAIN, face_crop_aug_range=(1.5, 3.0)), (900, 300), "x_700_100_60_60")
    assert wide.size == (96, 32)
    assert len({view_of(wide, seed) for seed in range(20)}) > 15
    assert all(view_of(wide, seed).size == (96, 32) for seed in range(20))


def test_the_filter_that_is_really_used() -> None:
    def used(name: str, size: tuple[int, int]) -> str:
        return view_of(picture_of(replace(PLAIN, resize_interpolation=name), size), 0).resampling

    assert [used(name, (200, 200)) for name in INTERPOLATIONS] == ["lanczos", "box", *INTERPOLATIONS[2:]]
    assert [used(name, (20, 20)) for name in ("area", "box")] == ["bilinear", "nearest"]
    assert {used(name, (64, 64)) for name in INTERPOLATIONS} == {"lanczos"}
    assert averaging((10, 10), (10, 20)) == "bilinear"


@given(SIDES, SIDES, SIDES, SIDES)
def test_the_middle(width: int, height: int, more: int, higher: int) -> None:
    left, top = middle((width + more, height + higher), (width, height))
    assert 0 <= more - 2 * left <= 1 and 0 <= higher - 2 * top <= 1
