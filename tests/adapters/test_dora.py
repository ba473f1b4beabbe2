"""DoRA: lengths of inputs that learn apart from directions."""

import pytest
import torch
from torch import nn

from library.adapters.dora import DORA, lengths
from library.adapters.kinds import Options, Size


@pytest.mark.parametrize("base", [nn.Linear(6, 8), nn.Conv2d(6, 8, 3)], ids=["linear", "square"])
@torch.no_grad()
def test_lengths_are_the_magnitudes_whatever_the_directions(base: nn.Module) -> None:
    layer = DORA.inject(nn.Sequential(base), {"0": Size(2, 1.0)}, Options())["0"]
    DORA.start(layer, 0)
    torch.testing.assert_close(layer.magnitude.flatten(), base.weight.transpose(0, 1).flatten(1).norm(dim=1))
    assert layer.magnitude.shape == (1, 6, *(1,) * (base.weight.ndim - 2))
    assert float(layer.change().abs().max()) < 1e-7
    layer.up.add_(torch.randn(layer.up.shape))
    layer.magnitude.mul_(2.0)
    torch.testing.assert_close(lengths(base.weight + layer.change()), layer.magnitude)
    assert layer.export(1.0)["dora_scale"].shape == layer.magnitude.shape


def test_a_weight_of_zeros_stays_without_a_fault() -> None:
    base = nn.Linear(4, 4)
    base.weight.data[:, 0] = 0
    layer = DORA.inject(nn.Sequential(base), {"0": Size(2, 1.0)}, Options())["0"]
    DORA.start(layer, 0)
    layer(torch.ones(1, 4)).sum().backward()
    assert all(each.grad.isfinite().all() for each in DORA.parameters(layer))
