"""What a folder inherits, and the range of its buckets."""

from pathlib import Path

import pytest

from library.settings import DatasetTable, Settings, SubsetTable
from library.settings.tables import fit_bucket_range, resolve_subset


@pytest.mark.parametrize(
    ("low", "high", "step", "resolution", "expected"),
    [
        (256, 1024, 64, (512, 512), (256, 1024)),
        (256, 1024, 64, (128, 192), (128, 1024)),
        (300, 1000, 64, (512, 512), (256, 1024)),
        (256, 1000, 128, (192, 512), (128, 1024)),
        (64, 1024, 128, (512, 512), (128, 1024)),
    ],
)
def test_bucket_range(
    low: int, high: int, step: int, resolution: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit_bucket_range(low, high, step, resolution) == expected
    assert fit_bucket_range(*expected, step, resolution) == expected


def test_the_nearest_word_counts_even_where_it_is_false_or_zero() -> None:
    settings = Settings(shuffle_caption=True, keep_tokens=5, dataset_repeats=7, caption_prefix="a")
    dataset = DatasetTable(shuffle_caption=True, keep_tokens=0)
    subset = resolve_subset(settings, dataset, SubsetTable(image_dir=Path("p"), shuffle_caption=False))
    assert (subset.shuffle_caption, subset.keep_tokens, subset.num_repeats) == (False, 0, 7)
    assert (subset.flip_aug, subset.resize_interpolation, subset.face_crop_aug_range) == (False, "lanczos", None)
    assert (subset.caption_prefix, subset.class_tokens, subset.image_dir) == ("a", None, Path("p"))
