"""Buckets: the lists that sd-scripts makes, the nearest one is taken, pictures cover it and lose little."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.buckets import bucket_sizes, cover, place, subset_buckets
from library.data.folders import Subset
from library.errors import InputError

BUCKETED = Subset(image_dir=Path("folder"), enable_bucket=True)
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
SIDES = st.integers(2, 24).map(lambda steps: steps * 64)


@pytest.mark.parametrize(
    ("side", "lowest", "highest", "step", "count"),
    [(512, 256, 1024, 64, 17), (1024, 256, 2048, 64, 41), (1024, 256, 2048, 32, 81)],
)
def test_as_many_as_sd_scripts(side: int, lowest: int, highest: int, step: int, count: int) -> None:
    assert len(bucket_sizes((side, side), lowest, highest, step)) == count


def test_the_shortest_side_is_never_above_the_resolution() -> None:
    assert (192, 320) in bucket_sizes((192, 320), 256, 1024, 64)


def test_the_list_for_512() -> None:
    sizes = bucket_sizes((512, 512), 256, 1024, 64)
    assert sizes[:6] == [(256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768)]
    assert (512, 512) in sizes and (448, 576) in sizes


@given(SIDES, SIDES, st.sampled_from([64, 128, 256]), st.sampled_from([32, 64]))
def test_buckets_are_whole_steps_within_the_area(width: int, height: int, lowest: int, step: int) -> None:
    sizes = bucket_sizes((width, height), lowest, 1536, step)
    assert sizes == sorted(set(sizes))
    assert {(h, w) for w, h in sizes} == set(sizes)
    for w, h in sizes:
        assert w % step == 0 and h % step == 0
        assert w * h <= width * height
        assert max(w, h) <= 1536 and min(w, h) >= min(lowest, width, height) // step * step


@pytest.mark.parametrize(
    ("side", "lowest", "step", "expected"),
    [
        (128, 256, 64, [(128, 128)]),
        (128, 64, 64, [(64, 192), (64, 256), (128, 128), (192, 64), (256, 64)]),
        (64, 256, 64, [(64, 64)]),
        (128, 96, 32, [(96, 160), (128, 128), (160, 96)]),
    ],
)
def test_resolutions_below_the_shortest_side(
    side: int, lowest: int, step: int, expected: list[tuple[int, int]]
) -> None:
    assert bucket_sizes((side, side), lowest, 1024, step) == expected


@given(SIZES)
def test_the_nearest_bucket_is_covered(size: tuple[int, int]) -> None:
    buckets = subset_buckets(BUCKETED)
    resized, chosen = place(size, buckets, BUCKETED)
    ratio = size[0] / size[1]
    best = min(abs(w / h - ratio) for w, h in buckets)
    assert abs(chosen[0] / chosen[1] - ratio) == best
    assert resized[0] >= chosen[0] and resized[1] >= chosen[1]
    assert resized[0] == chosen[0] or resized[1] == chosen[1]


def test_a_picture_of_a_bucket_s_size_is_left_as_it_is() -> None:
    for size in subset_buckets(BUCKETED):
        assert place(size, subset_buckets(BUCKETED), BUCKETED) == (size, size)


def test_halves_are_rounded_up_as_sd_scripts_does() -> None:
    assert cover((3325, 2432), (576, 448)) == (613, 448)  # 612.5


@pytest.mark.parametrize("size", [(100, 100), (4000, 30), (512, 768), (513, 511)])
def test_without_buckets_all_pictures_have_one_size(size: tuple[int, int]) -> None:
    subset = replace(BUCKETED, enable_bucket=False, resolution=(512, 768))
    resized, chosen = place(size, subset_buckets(subset), subset)
    assert chosen == (512, 768)
    assert min(resized[0] - 512, resized[1] - 768) == 0


@given(SIZES)
def test_no_upscale_never_enlarges_what_is_a_step_long(size: tuple[int, int]) -> None:
    subset = replace(BUCKETED, bucket_no_upscale=True)
    resized, chosen = place(size, subset_buckets(subset), subset)
    assert chosen[0] % 64 == 0 and chosen[1] % 64 == 0
    assert resized[0] >= chosen[0] and resized[1] >= chosen[1]
    if min(size) >= 64 and size[0] * size[1] <= 512 * 512:
        assert resized == size
        assert size[0] - chosen[0] < 64 and size[1] - chosen[1] < 64
    if min(size) >= 64 and max(size) <= 16 * min(size):
        assert resized[0] <= size[0] + 1 and resized[1] <= size[1] + 1
        assert chosen[0] * chosen[1] <= 512 * 512


def test_no_upscale_keeps_proportions_when_it_shrinks() -> None:
    subset = replace(BUCKETED, bucket_no_upscale=True)
    assert place((1024, 768), [], subset) == ((512, 384), (512, 384))
    assert place((300, 200), [], subset) == ((300, 200), (256, 192))


@given(SIZES, SIZES)
def test_cover_is_the_smallest_that_covers(picture: tuple[int, int], size: tuple[int, int]) -> None:
    covering = cover(picture, size)
    assert covering[0] >= size[0] and covering[1] >= size[1]
    assert covering[0] == size[0] or covering[1] == size[1]
    scale = max(size[0] / picture[0], size[1] / picture[1])
    assert abs(covering[0] - picture[0] * scale) <= 1 and abs(covering[1] - picture[1] * scale) <= 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolution": (500, 512)}, "500x512"),
        ({"resolution": (0, 512)}, "0x512"),
        ({"bucket_reso_steps": 12}, "bucket_reso_steps is 12"),
        ({"bucket_reso_steps": 0}, "bucket_reso_steps is 0"),
        ({"bucket_reso_steps": 576}, "above the resolution"),
        ({"resolution": (1536, 1536)}, "set it to 1536 or more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        subset_buckets(replace(BUCKETED, **change))
