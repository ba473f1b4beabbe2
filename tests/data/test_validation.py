"""Held-out pictures: chosen by content, stable, never seen in training, shown plainly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.dataset import Dataset
from library.data.folders import Subset
from library.data.validation import split_validation, validation_view
from library.data.views import Colour
from library.errors import InputError
from tests.data.samples import imagined

CHANCY = Subset(
    image_dir=Path("train"),
    resolution=(64, 64),
    num_repeats=3,
    flip_aug=True,
    shuffle_caption=True,
    caption_dropout_rate=1.0,
    caption_dropout_every_n_epochs=1,
    caption_tag_dropout_rate=1.0,
    token_warmup_step=9,
    random_crop=True,
    color_aug=True,
    face_crop_aug_range=(1.0, 4.0),
)
REG = replace(CHANCY, image_dir=Path("reg"), is_reg=True, num_repeats=1)


def dataset_of(count: int) -> Dataset:
    """Pictures 0 to `count`, and as many regularisation pictures."""
    pictures = [imagined(f"{number}", CHANCY) for number in range(count)]
    return Dataset([*pictures, *(imagined(f"reg {number}", REG) for number in range(count))], seed=1)


def names(dataset: Dataset, is_reg: bool = False) -> set[str]:
    """The contents of a dataset's pictures."""
    return {picture.sha256 for picture in dataset.pictures if picture.subset.is_reg == is_reg}


@given(st.integers(2, 40), st.floats(0.001, 0.999), st.integers(0, 1000))
def test_both_sides_have_pictures_and_share_none(count: int, part: float, seed: int) -> None:
    whole = dataset_of(count)
    train, held = split_validation(whole, part, seed)
    assert names(train) and names(held)
    assert not names(train) & names(held)
    assert names(train) | names(held) == names(whole)
    assert names(train, is_reg=True) == names(whole, is_reg=True) and not names(held, is_reg=True)
    assert train.sample_count == 2 * 3 * len(names(train)), "regularisation still matches"


def test_the_share_is_about_what_was_asked_for() -> None:
    _, held = split_validation(dataset_of(1000), 0.2, 3)
    assert 160 < len(names(held)) < 240


@given(st.integers(20, 60), st.integers(1, 60), st.integers(0, 1000))
def test_pictures_stay_on_their_side_when_others_are_added(count: int, more: int, seed: int) -> None:
    before = split_validation(dataset_of(count), 0.5, seed)
    after = split_validation(dataset_of(count + more), 0.5, seed)
    assert names(before[0]) <= names(after[0])
    assert names(before[1]) <= names(after[1])


def test_another_seed_holds_out_others() -> None:
    assert len({frozenset(names(split_validation(dataset_of(30), 0.3, seed)[1])) for seed in range(5)}) == 5


def test_copies_stay_together() -> None:
    pictures = [imagined(f"{number}", CHANCY, copy=copy) for number in range(10) for copy in range(2)]
    train, held = split_validation(Dataset(pictures, seed=0), 0.4, 0)
    assert not names(train) & names(held)
    assert len(train.pictures) + len(held.pictures) == 20


def test_one_picture_cannot_be_split() -> None:
    pictures = [imagined("same", CHANCY, copy=copy) for copy in range(3)]
    with pytest.raises(InputError, match="validation_split needs two different pictures"):
        split_validation(Dataset(pictures, seed=0), 0.5, 0)


@pytest.mark.parametrize(
    "view", [validation_view, lambda dataset: split_validation(dataset, 0.5, 0)[1]], ids=["view", "split"]
)
def test_validation_shows_pictures_plainly_and_once(view: Callable[[Dataset], Dataset]) -> None:
    held = view(dataset_of(6))
    assert held.sample_count == len(names(held))
    for sample in held.samples:
        assert held.caption_of(sample, 0) == held.caption_of(sample, 1) == f"a, b, {sample.picture.sha256}"
        assert not any(held.flip_of(sample, epoch) for epoch in range(10))
        views = {held.view_of(sample, epoch) for epoch in range(10)}
        assert len(views) == 1 and views.pop().colour == Colour()


def test_faces_are_validated_at_the_middle_of_their_range() -> None:
    picture = replace(imagined("face", CHANCY, (640, 640)), path=Path("x_160_480_40_40.png"))
    (shown,) = validation_view(Dataset([picture], seed=1)).samples
    view = validation_view(Dataset([picture], seed=1)).view_of(shown, 0)
    assert view.resized == (512, 512), "a face of 32 pixels, half of 64"
    assert view.corner == (128 - 32, 384 - 32)
