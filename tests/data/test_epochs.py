"""The order of training: every sample once, one size a batch, a function of seed and epoch only."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from library.data.epochs import Sample, list_samples, plan_epoch
from library.data.folders import Subset
from library.data.pictures import Picture
from tests.data.samples import imagined

TRAIN = Subset(image_dir=Path("train"), resolution=(128, 128), enable_bucket=True, min_bucket_reso=64)
REG = replace(TRAIN, image_dir=Path("reg"), is_reg=True)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[Sample, ...]:
    """Samples of a few folders with repeats, shapes and perhaps regularisation pictures."""
    pictures: list[Picture] = []
    for number in range(draw(st.integers(1, 3))):
        subset = replace(TRAIN, image_dir=Path(f"f{number}"), num_repeats=draw(st.integers(1, 3)))
        pictures += shaped(subset, draw(st.lists(st.integers(0, 2), min_size=1, max_size=6)))
    pictures += shaped(REG, draw(st.lists(st.integers(0, 2), max_size=4)))
    return list_samples(pictures, 0.5)


def shaped(subset: Subset, shapes: list[int]) -> list[Picture]:
    """Pictures that lie, stand or are square."""
    sizes = [(128, 128), (256, 64), (64, 192)]
    return [imagined(f"{subset.image_dir}{i}", subset, sizes[shape]) for i, shape in enumerate(shapes)]


SEEDS = st.integers(0, 2**31)


@settings(max_examples=60)
@given(datasets(), SEEDS, st.integers(0, 20), st.integers(1, 9))
def test_every_sample_comes_once_in_batches_of_one_size(
    samples: tuple[Sample, ...], seed: int, epoch: int, effective: int
) -> None:
    plan = plan_epoch(samples, seed, epoch, effective)
    shown = [sample for batch in plan for sample in batch]
    assert sorted(sample.index for sample in shown) == list(range(len(samples)))
    for batch in plan:
        assert 1 <= len(batch) <= effective
        assert len({sample.picture.size for sample in batch}) == 1
    short = Counter(batch[0].picture.size for batch in plan if len(batch) < effective)
    assert all(count == 1 for count in short.values()), "only a bucket's last batch is short"


@settings(max_examples=40)
@given(datasets(), SEEDS, st.integers(1, 4))
def test_a_resumed_run_sees_what_the_unbroken_one_saw(
    samples: tuple[Sample, ...], seed: int, effective: int
) -> None:
    unbroken = [plan_epoch(samples, seed, epoch, effective) for epoch in range(4)]
    assert [plan_epoch(samples, seed, epoch, effective) for epoch in (2, 3)] == unbroken[2:]
    assert len({len(plan) for plan in unbroken}) == 1


@settings(max_examples=40)
@given(datasets(), SEEDS, st.integers(1, 3), st.integers(1, 3))
def test_micro_batches_of_any_split_make_up_the_same_steps(
    samples: tuple[Sample, ...], seed: int, batch: int, processes: int
) -> None:
    plan = plan_epoch(samples, seed, 1, batch * processes * 2)

    def steps(batch_size: int, world_size: int) -> list[list[Sample]]:
        starts = range(0, batch * processes * 2, batch_size * world_size)
        return [
            [
                sample
                for start in starts
                for rank in range(world_size)
                for sample in whole[start + rank * batch_size : start + (rank + 1) * batch_size]
            ]
            for whole in plan
        ]

    assert steps(batch * 2, processes) == steps(batch, processes) == steps(batch * processes * 2, 1)


def test_samples_and_batches_are_shuffled_anew_each_epoch_and_by_seed() -> None:
    samples = list_samples(shaped(TRAIN, [0] * 12 + [1] * 12), 1.0)

    def order(seed: int, epoch: int) -> list[int]:
        return [sample.index for batch in plan_epoch(samples, seed, epoch, 3) for sample in batch]

    orders = [order(1, 0), order(1, 1), order(2, 0), list(range(24))]
    assert all(first != second for first, second in pairwise([*orders, orders[0]]))
    batches = [{frozenset(b) for b in plan_epoch(samples, 1, epoch, 3)} for epoch in range(2)]
    assert batches[0] != batches[1], "other samples meet"
    shapes = {tuple(b[0].picture.size for b in plan_epoch(samples, 1, epoch, 3)) for epoch in range(8)}
    assert len(shapes) > 4, "the batches come in another order"
    sizes = [batch[0].picture.size for batch in plan_epoch(samples, 1, 0, 3)]
    assert sizes not in (sorted(sizes), sorted(sizes, reverse=True)), "the sizes are mixed"


def test_a_sample_s_draws_do_not_depend_on_its_company() -> None:
    few, many = (list_samples(shaped(replace(TRAIN, num_repeats=2), [0] * count), 1.0) for count in (2, 5))
    assert [sample.seed(7, "draw", 3) for sample in few] == [sample.seed(7, "draw", 3) for sample in many[:4]]
    seeds = {sample.seed(7, purpose, epoch) for sample in many for purpose in ("a", "b") for epoch in (0, 1)}
    assert len(seeds) == 4 * len(many)


@pytest.mark.parametrize(
    ("train", "reg", "reg_repeats", "expected"),
    [
        (6, 3, 1, [2, 2, 2]),
        (7, 3, 1, [3, 2, 2]),
        (4, 6, 1, [1, 1, 1, 1]),
        (5, 3, 2, [2, 2, 1]),
        (9, 2, 3, [5, 4]),
        (3, 0, 1, []),
    ],
)
def test_regularisation_matches_training(train: int, reg: int, reg_repeats: int, expected: list[int]) -> None:
    pictures = shaped(TRAIN, [0] * train) + shaped(replace(REG, num_repeats=reg_repeats), [0] * reg)
    samples = list_samples(pictures, 0.3)
    regs = [sample for sample in samples if sample.is_reg]
    assert list(Counter(sample.picture.key for sample in regs).values()) == expected
    assert len({(sample.picture.key, sample.repeat) for sample in regs}) == len(regs)
    assert {sample.loss_weight for sample in regs} <= {0.3}
    assert {sample.loss_weight for sample in samples if not sample.is_reg} == {1.0}


def test_regularisation_matches_training_at_each_resolution() -> None:
    """As sd-scripts does it for each [[datasets]]; the first resolution's pictures would be enough for all."""
    large = {"resolution": (256, 256)}
    subsets = [replace(TRAIN, num_repeats=2), REG, replace(TRAIN, **large), replace(REG, **large)]
    numbers = zip(subsets, (2, 9, 3, 9), strict=True)
    pictures = [picture for subset, number in numbers for picture in shaped(subset, [0] * number)]
    counts = Counter((s.picture.subset.resolution, s.is_reg) for s in list_samples(pictures, 1.0))
    assert counts == {((128, 128), False): 4, ((128, 128), True): 4, ((256, 256), False): 3, ((256, 256), True): 3}


def test_regularisation_of_a_resolution_of_its_own_goes_with_those_that_have_none() -> None:
    subsets = [TRAIN, replace(TRAIN, resolution=(192, 192)), REG, replace(REG, resolution=(256, 256))]
    pictures = [picture for subset in subsets for picture in shaped(subset, [0] * 3)]
    counts = Counter(s.picture.subset.resolution for s in list_samples(pictures, 1.0) if s.is_reg)
    assert counts == {(128, 128): 3, (256, 256): 3}


def test_folders_of_one_size_may_have_batches_of_several() -> None:
    other = replace(TRAIN, image_dir=Path("other"), batch_size=3)
    samples = list_samples(shaped(TRAIN, [0] * 8) + shaped(other, [0] * 8), 1.0)
    plan = plan_epoch(samples, 1, 0, 2)
    kinds = [(batch[0].picture.subset.batch_size, len(batch)) for batch in plan]
    assert sorted(kinds) == [(1, 2)] * 4 + [(3, 2), (3, 6)]
    assert all(len({sample.picture.subset for sample in batch}) == 1 for batch in plan)
    orders = {tuple(batch[0].picture.subset.batch_size for batch in plan_epoch(samples, 1, n, 2)) for n in range(9)}
    assert len(orders) > 4, "they are mixed anew in each epoch"
