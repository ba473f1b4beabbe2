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
