"""OFT and BOFT: lengths and angles of a weight stay, as outputs are turned."""

import pytest
import torch
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.oft import BOFT, OFT
from library.errors import InputError


def layer_of(kind, outputs: int = 16, rank: int = 4):
    layer = kind.inject(nn.Sequential(nn.Conv2d(3, outputs, 3)), {"0": Size(rank, 1.0)}, Options())["0"]
    kind.start(layer, 0)
    return layer


@pytest.mark.parametrize("kind", [OFT, BOFT])
@torch.no_grad()
def test_outputs_are_turned_by_a_rotation(kind) -> None:
    layer = layer_of(kind)
    assert not layer.change().any()
    layer.blocks.copy_(torch.randn(layer.blocks.shape))
    before = layer.weight.flatten(1)
    after = before + layer.change().flatten(1)
    torch.testing.assert_close(after.t() @ after, before.t() @ before, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-2)


@torch.no_grad()
def test_which_outputs_meet() -> None:
    """One round of OFT mixes 4 neighbours; three of BOFT mix all 16."""
    reach = {}
    for kind in (OFT, BOFT):
        layer = layer_of(kind)
        layer.blocks.copy_(torch.randn(layer.blocks.shape))
        layer.base_layer.weight.zero_()
        layer.base_layer.weight[0] = 1.0
        reach[kind.layer] = {int(row) for row in (layer.weight + layer.change()).flatten(1).abs().sum(1).nonzero()}
    assert reach[OFT.layer] == {0, 1, 2, 3} and reach[BOFT.layer] == set(range(16))
    assert layer_of(BOFT).blocks.shape == (3, 4, 4, 4) and layer_of(OFT, 12, 5).blocks.shape == (1, 3, 4, 4)


def test_outputs_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(InputError, match="network_dim = 4 leaves no block of the 7 outputs"):
        layer_of(OFT, 7)
    with pytest.raises(InputError, match="no block of the 9 outputs"):
        layer_of(BOFT, 9)


def test_so_many_blocks() -> None:
    """As sd-scripts counts: the rank is then of no account; where the number is no divisor, the next below is taken."""
    base = nn.Sequential(nn.Linear(3, 24))
    for wanted, shape in ((4, (1, 4, 6, 6)), (7, (1, 6, 4, 4)), (1, (1, 1, 24, 24))):
        options = Options(arguments={"num_blocks": wanted})
        layer = OFT.inject(nn.Sequential(*base), {"0": Size(2, 1.0)}, options)["0"]
        assert layer.blocks.shape == shape


@pytest.mark.parametrize("kind", [OFT, BOFT])
def test_a_turn_is_held_to_the_constraint(kind) -> None:
    """Q / |Q| * constraint * outputs beyond that length, as sd-scripts computes it; below it nothing changes."""
    found = {}
    for constraint in (0.0, 0.01, 100.0):
        options = Options(arguments={"constraint": constraint})
        layer = kind.inject(nn.Sequential(nn.Linear(3, 16)), {"0": Size(4, 1.0)}, options)["0"]
        with torch.no_grad():
            layer.base_layer.weight.copy_(torch.linspace(-1, 1, 48).view(16, 3))
        kind.start(layer, 0)
        layer.change().sum().backward()
        assert layer.blocks.grad.isfinite().all() and layer.blocks.grad.any()
        with torch.no_grad():
            layer.blocks.copy_(torch.linspace(-1, 1, layer.blocks.numel()).view(layer.blocks.shape).sin())
            found[constraint] = layer.change()
            if constraint == 0.01:
                skew = layer.blocks - layer.blocks.transpose(-1, -2)
                layer.blocks.mul_(0.01 * 16 / skew.norm())
                layer.longest = 0.0
                torch.testing.assert_close(layer.change(), found[constraint], rtol=1e-4, atol=1e-5)
    assert torch.equal(found[0.0], found[100.0]) and not torch.allclose(found[0.0], found[0.01], atol=1e-2)
