"""Differences of whole layers and of norms."""

import pytest
import torch
from torch import nn

from library.adapters.full import FULL, NORM, is_norm
from library.adapters.kinds import Options, Size


@pytest.mark.parametrize("base", [nn.LayerNorm(6), nn.GroupNorm(3, 6), nn.Linear(6, 4), nn.Conv2d(6, 4, 3)])
@torch.no_grad()
def test_it_is_the_layer_with_other_weights(base: nn.Module) -> None:
    kind = NORM if is_norm(base) else FULL
    model = nn.Sequential(base)
    layer = kind.inject(model, {"0": Size(1, 1.0)}, Options())["0"]
    for parameter in kind.parameters(layer):
        parameter.copy_(torch.randn(parameter.shape))
    x = torch.randn((2, 6) if isinstance(base, nn.Linear | nn.LayerNorm) else (2, 6, 4, 4))
    found = model(x)
    base.weight += layer.change()
    base.bias += layer.bias_change()
    torch.testing.assert_close(found, base(x))
    assert list(layer.export(1.0)) == (["w_norm", "b_norm"] if kind is NORM else ["diff", "diff_b"])


def test_what_is_a_norm() -> None:
    assert not is_norm(nn.Linear(2, 2)) and not is_norm(nn.LayerNorm(2, elementwise_affine=False))
    assert not is_norm(nn.LayerNorm(2, bias=False))
