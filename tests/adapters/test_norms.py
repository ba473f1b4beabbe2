"""Limits of a LoRA's change: the norm against the product itself, and what scaling down leaves."""

import pytest
import torch

from library.adapters.keys import LoraWeights
from library.adapters.norms import limit_norms, product_norm

SHAPES = {
    "linear": ((4, 24), (16, 4)),
    "conv": ((4, 8, 3, 3), (16, 4, 1, 1)),
    "pointwise": ((4, 8, 1, 1), (6, 4, 1, 1)),
}


def layer_of(kind: str, size: float = 1.0, alpha: float = 2.0) -> LoraWeights:
    """Random matrices."""
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator) for shape in SHAPES[kind])
    return LoraWeights(down, size * up, alpha)


@pytest.mark.parametrize("kind", SHAPES)
def test_the_norm_is_that_of_the_product(kind: str) -> None:
    layer = layer_of(kind)
    torch.testing.assert_close(product_norm(layer), layer.delta().norm())


@pytest.mark.parametrize("kind", SHAPES)
def test_long_ones_become_as_long_as_allowed_and_point_where_they_did(kind: str) -> None:
    long, short = layer_of(kind), layer_of(kind, 1e-3)
    before, kept = long.delta(), short.delta().clone()
    downs = [long.down.clone(), long.up.clone()]
    limit_norms([long, short], 1.5)
    torch.testing.assert_close(long.delta().norm(), torch.tensor(1.5))
    torch.testing.assert_close(long.delta(), before * (1.5 / before.norm()))
    assert torch.equal(short.delta(), kept)
    ratios = [(new / old).mean().item() for new, old in zip((long.down, long.up), downs, strict=True)]
    assert ratios[0] == pytest.approx(ratios[1])  # both alike, as in sd-scripts


def test_a_change_of_nothing_stays_so() -> None:
    layer = LoraWeights(torch.ones(2, 3), torch.zeros(4, 2), 1.0)
    limit_norms([layer], 1.0)
    assert torch.equal(layer.down, torch.ones(2, 3)) and torch.equal(layer.up, torch.zeros(4, 2))
