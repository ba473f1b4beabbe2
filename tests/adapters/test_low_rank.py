"""Our own LoRA layer computes what PEFT's does."""

import copy

import pytest
import torch
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.lora import LORA
from library.adapters.low_rank import LOW_RANK

BASES = [nn.Linear(6, 8), nn.Conv2d(6, 8, 1), nn.Conv2d(6, 8, 3, stride=2, padding=1)]


@pytest.mark.parametrize("base", BASES, ids=["linear", "pointwise", "strided"])
@torch.no_grad()
def test_it_is_pefts(base: nn.Module) -> None:
    x = torch.randn((2, 6) if isinstance(base, nn.Linear) else (2, 6, 5, 5))
    found = []
    for kind in (LORA, LOW_RANK):
        model = nn.Sequential(copy.deepcopy(base))
        layer = kind.inject(model, {"0": Size(3, 1.0)}, Options())["0"]
        kind.start(layer, 7)
        kind.faster(layer)[0].fill_(0.3)
        found.append((model(x), kind.export(layer, 2.0), kind.weights(layer)))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(tensor, found[1][1][leaf]) for leaf, tensor in found[0][1].items())
    assert torch.equal(found[0][2].delta(), found[1][2].delta())


def test_more_dropouts_are_what_it_is_for() -> None:
    assert LORA.fitted(Options(dropout=0.5)) is LORA
    assert LORA.fitted(Options(rank_dropout=0.5)) is LORA.fitted(Options(module_dropout=0.5)) is LOW_RANK
