"""LoKr's factors: how a layer is divided, which of them are decomposed, and at which scale."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.lokr import LOKR, divided


@given(st.integers(1, 3000), st.integers(-1, 64).filter(bool))
def test_factors_multiply_to_the_number(count: int, limit: int) -> None:
    small, large = divided(count, limit)
    assert small * large == count and small <= large
    if limit > 0:
        assert small <= limit


def test_factors_of_usual_widths() -> None:
    assert [divided(width, -1) for width in (320, 768, 1280)] == [(16, 20), (24, 32), (32, 40)]
    assert [divided(width, 8) for width in (320, 768, 10)] == [(8, 40), (8, 96), (2, 5)]


@pytest.mark.parametrize(
    ("told", "leaves", "scale"),
    [
        ({}, ["lokr_w1", "lokr_w2_a", "lokr_w2_b"], 0.5),
        ({"full_matrix": True}, ["lokr_w1", "lokr_w2"], 1.0),
        ({"decompose_both": True, "factor": 12}, ["lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"], 0.5),
        ({"factor": 2, "decompose_both": True}, ["lokr_w1", "lokr_w2_a", "lokr_w2_b"], 0.5),
    ],
)
@pytest.mark.parametrize("base", [nn.Linear(144, 144), nn.Conv2d(144, 144, 3)], ids=["linear", "square"])
def test_what_is_decomposed(base: nn.Module, told: dict, leaves: list[str], scale: float) -> None:
    layer = LOKR.inject(nn.Sequential(base), {"0": Size(2, 1.0)}, Options(arguments=told))["0"]
    LOKR.start(layer, 0)
    assert list(LOKR.state(layer)) == leaves and layer.scale == scale
    assert list(layer.export(3.0)) == [*leaves, "alpha"]
    assert not layer.change().any() and layer.change().shape == base.weight.shape
    list(LOKR.parameters(layer))[-1].data.fill_(1.0)
    one, two = (layer.export(1.0).get(f"lokr_w{n}") for n in (1, 2))
    if told.get("full_matrix"):
        expected = torch.kron(one.reshape(*one.shape, *(1,) * (two.ndim - 2)), two)
        torch.testing.assert_close(layer.change(), expected)
