"""The summary says what a person checks before a run."""

from dataclasses import replace
from pathlib import Path

from library.data.dataset import Dataset
from library.data.folders import Subset
from library.data.summary import describe
from tests.data.samples import imagined

TRAIN = Subset(image_dir=Path("train"), resolution=(64, 64), num_repeats=2)
REG = Subset(image_dir=Path("reg"), resolution=(64, 64), is_reg=True, class_tokens="dog")


def test_folders_samples_and_buckets() -> None:
    wide = replace(TRAIN, image_dir=Path("wide"), resolution=(128, 64), num_repeats=1)
    dataset = Dataset([imagined("a", TRAIN), imagined("b", TRAIN), imagined("c", wide)], seed=0)
    assert describe(dataset).splitlines() == [
        "train: 2 pictures x 2 at 64x64, 2 captions",
        "wide: 1 pictures x 1 at 128x64, 1 captions",
        "samples an epoch: 5",
        "buckets: 64x64: 4, 128x64: 1",
    ]


def test_regularisation_and_missing_captions() -> None:
    wordless = [replace(imagined(f"r{number}", REG), has_caption=False) for number in range(2)]
    regs = [imagined(f"r{number}", REG) for number in range(2, 5)] + wordless
    assert describe(Dataset([imagined("a", TRAIN), *regs], seed=0)).splitlines() == [
        "train: 1 pictures x 2, 1 captions",
        'reg: regularisation, 5 pictures x 1, 3 captions, 2 without: "dog"',
        "samples an epoch: 4 (2 of them regularisation, from 2 pictures, 3 more are not needed)",
        "buckets: 64x64: 4",
    ]


def test_what_was_left_out_is_counted() -> None:
    skipped = {Path("bad.png"): "cut", Path("worse.png"): "cut"}
    dataset = Dataset([imagined("a", TRAIN)], seed=0, skipped=skipped)
    assert describe(dataset).splitlines()[-1] == "left out, unreadable: 2 pictures"
