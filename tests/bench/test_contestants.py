"""Both ways to take a step learn the same kind of thing on the same model."""

from collections.abc import Callable

import pytest
import torch

from library.bench import imagined
from library.bench.contestants import Fixed, ours, plain, random_batch, random_condition
from library.bench.works import Work
from library.device import Compute, start_compute
from library.models.family import Family

TINY = {"block_out_channels": (32, 32, 64, 64), "sample_size": 8}


@pytest.fixture
def compute() -> Compute:
    return start_compute("no")


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> Family:
    monkeypatch.setattr(imagined, "SMALL", TINY)
    return imagined.imagine("sd1", small=True)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("contestant", [ours, plain])
def test_a_step_moves_what_learns(
    family: Family, compute: Compute, whole: bool, contestant: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    load = type(family).load_unet
    monkeypatch.setattr(type(family), "load_unet", lambda self, dtype: made.append(load(self, dtype)) or made[-1])
    step = contestant(Work("sd1", 64, 2, whole, True).settings("no"), family, compute, 128)
    (unet,) = made
    learning = {name: each.detach().clone() for name, each in unet.named_parameters() if each.requires_grad}
    assert len(learning) == (len(list(unet.parameters())) if whole else 2 * 192)
    step(0)
    step(1)
    still = [name for name, before in learning.items() if torch.equal(before, unet.get_parameter(name))]
    assert not still


def test_both_train_as_many_numbers(family: Family, compute: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    load = type(family).load_unet
    made = []
    monkeypatch.setattr(type(family), "load_unet", lambda self, dtype: made.append(load(self, dtype)) or made[-1])
    for contestant in (ours, plain):
        contestant(Work("sd1", 64, 1, False, True).settings("no"), family, compute, 128)
        counts.append(sum(each.numel() for each in made[-1].parameters() if each.requires_grad))
    assert counts[0] == counts[1] > 0


def test_fixed_words_and_pictures(family: Family, compute: Compute) -> None:
    unet = family.load_unet(torch.float32)
    condition = random_condition(family, unet, compute.device)
    read = Fixed(condition).read(["a", "b", "c"])
    assert read.hidden.shape == (3, 77, 768) and torch.equal(read.hidden[0], read.hidden[2]) and read.pooled is None
    batch = random_batch(family, 64, 3, compute.device)
    assert batch.mean.shape == (3, 4, 8, 8) and batch.weights.sum() == 1 and len(set(batch.draws)) == 3
