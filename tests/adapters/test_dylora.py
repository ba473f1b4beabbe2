"""DyLoRA: a rank is drawn in each pass, and its last unit learns."""

import pytest
import torch
from torch import nn

from library.adapters.dylora import DYLORA
from library.adapters.kinds import Options, Size
from library.errors import InputError


def layer_of(base: nn.Module, unit: int = 2):
    layer = DYLORA.inject(nn.Sequential(base), {"0": Size(6, 3.0)}, Options(arguments={"unit": unit}))["0"]
    DYLORA.start(layer, 0)
    layer.up.data.fill_(0.2)
    return layer.train()


@pytest.mark.parametrize("base", [nn.Linear(5, 4), nn.Conv2d(5, 4, 3)], ids=["linear", "square"])
def test_one_unit_learns_and_those_below_it_are_used(base: nn.Module) -> None:
    layer = layer_of(base)
    x = torch.randn((3, 5) if isinstance(base, nn.Linear) else (3, 5, 3, 3))
    seen = set()
    for seed in range(20):
        torch.manual_seed(seed)
        layer.down.grad = layer.up.grad = None
        side = layer.side(x)
        side.square().sum().backward()
        rows = [number for number in range(6) if layer.down.grad[number].any()]
        assert rows == [number for number in range(6) if layer.up.grad[:, number].any()]
        assert len(rows) == 2 and rows[0] % 2 == 0
        drawn = rows[1] + 1
        scale = 3.0 / 6 * (6 / drawn) ** 0.5
        with torch.no_grad():
            inner = layer.apply_weight(x, layer.down[:drawn])
            last = nn.functional.linear if isinstance(base, nn.Linear) else nn.functional.conv2d
            torch.testing.assert_close(side, scale * last(inner, layer.up[:, :drawn]))
        seen.add(drawn)
    assert seen == {2, 4, 6}


def test_the_unit_divides_the_rank() -> None:
    with pytest.raises(InputError, match="unit = 4 does not divide the rank, 6"):
        layer_of(nn.Linear(5, 4), unit=4)
