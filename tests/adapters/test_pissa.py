"""PiSSA: it begins with the largest singular values, and changes nothing by it."""

import pytest
import torch
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.pissa import PISSA


@pytest.mark.parametrize("base", [nn.Linear(12, 10), nn.Conv2d(4, 10, 3)], ids=["linear", "square"])
@torch.no_grad()
def test_it_begins_with_the_nearest_product(base: nn.Module) -> None:
    layer = PISSA.inject(nn.Sequential(base), {"0": Size(3, 1.5)}, Options())["0"]
    torch.manual_seed(0)
    stream = torch.get_rng_state()
    PISSA.start(layer, 4)
    assert torch.equal(stream, torch.get_rng_state()) and not layer.change().any()
    weight = base.weight.flatten(1)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    nearest = (left[:, :3] * values[:3]) @ right[:3]
    found = layer.scale * layer.up.flatten(1) @ layer.down.flatten(1)
    torch.testing.assert_close(found, nearest, rtol=1e-2, atol=1e-2 * float(nearest.abs().max()))


@torch.no_grad()
def test_a_rank_beyond_the_weights_begins_as_lora() -> None:
    layer = PISSA.inject(nn.Sequential(nn.Linear(3, 2)), {"0": Size(4, 1.0)}, Options())["0"]
    PISSA.start(layer, 0)
    assert layer.down[2:].any() and not layer.up[:, 2:].any() and layer.up[:, :2].any()
    layer.up.add_(0.5)
    leaves = layer.export(1.0)
    assert leaves["lora_down.weight"].shape == (8, 3) and leaves["lora_up.weight"].shape == (2, 8)
    torch.testing.assert_close(leaves["lora_up.weight"] @ leaves["lora_down.weight"] / 8, layer.change())
