"""(IA)^3: factors of outputs, of inputs in the second layer of an MLP, and the change in files."""

import pytest
import torch
from torch import nn

from library.adapters.ia3 import IA3
from library.adapters.kinds import Options, Size


@pytest.mark.parametrize("path", ["ff.net.2", "mlp.fc2", "attn2.to_k", "proj_in"])
@torch.no_grad()
def test_which_side_is_scaled(path: str) -> None:
    model = nn.Module()
    *parents, last = path.split(".")
    place = model
    for name in parents:
        place.add_module(name, nn.Module())
        place = place.get_submodule(name)
    base = nn.Conv2d(3, 5, 3) if path == "proj_in" else nn.Linear(3, 5)
    place.add_module(last, base)
    layer = IA3.inject(model, {path: Size(1, 1.0)}, Options())[path]
    by_input = path in ("ff.net.2", "mlp.fc2")
    assert layer.factors.numel() == (3 if by_input else 5)
    layer.factors[0, 0] = 1.0  # twice as much of the first
    changed = base.weight + layer.change()
    chosen, rest = (changed[:, 0], changed[:, 1:]) if by_input else (changed[0], changed[1:])
    before, others = (base.weight[:, 0], base.weight[:, 1:]) if by_input else (base.weight[0], base.weight[1:])
    assert torch.equal(chosen, 2 * before) and torch.equal(rest, others)
    assert layer.export(1.0).keys() == {"diff"} and layer.export(1.0)["diff"].shape == base.weight.shape
