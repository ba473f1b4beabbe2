"""Weights in few bits: near the true ones, much smaller, and used by the layer alone."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import library.quantised
from library.frozen import use_frozen_layers
from library.quantised import FORMATS, QuantisedLinear, quantise, quantised_bytes

CPU = torch.device("cpu")
NEAR = {"int8": 0.01, "nf4": 0.12}  # of the length of the outputs
BITS = {"int8": 8.2, "nf4": 4.6}


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_near_those_of_the_weight(format, dtype) -> None:
    layer = nn.Linear(320, 640, dtype=dtype).requires_grad_(False)
    plain, x, dy = copy.deepcopy(layer), torch.randn(3, 5, 320, dtype=dtype), torch.randn(3, 5, 640, dtype=dtype)
    quantise(layer, format, CPU)
    found = []
    for each in (layer, plain):
        asked = x.clone().requires_grad_()
        y = each(asked)
        y.backward(dy)
        found.append((y.detach().float(), asked.grad.float()))
    for one, right in zip(*found, strict=True):
        assert 0 < (one - right).norm() < NEAR[format] * right.norm()
    assert layer(x).dtype == dtype


def test_it_is_small(format) -> None:
    layer = nn.Linear(1024, 512).requires_grad_(False)
    quantise(layer, format, CPU)
    assert 8 * quantised_bytes(layer) < BITS[format] * 1024 * 512
    assert layer.weight.untyped_storage().nbytes() == 4 and layer.weight.shape == (512, 1024)
    assert layer.weight.isnan().all()


def test_which_layers() -> None:
    model = nn.ModuleDict({"wide": nn.Linear(256, 256), "narrow": nn.Linear(256, 255), "conv": nn.Conv2d(256, 256, 1)})
    model.requires_grad_(False)
    quantise(model, "int8", CPU)
    use_frozen_layers([model])
    assert isinstance(model["wide"].forward, QuantisedLinear)
    assert not any(isinstance(model[name].forward, QuantisedLinear) for name in ("narrow", "conv"))


def test_nothing_is_kept_for_the_backward_pass(format, monkeypatch) -> None:
    monkeypatch.setattr(library.quantised, "WIDE", 16)
    layer = nn.Linear(32, 16).requires_grad_(False)
    quantise(layer, format, CPU)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        layer(torch.randn(2, 32, requires_grad=True))
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert layer(torch.empty(2, 32, requires_grad=True)).shape == (2, 16)
    assert kept == []


def test_autocast_is_followed(format) -> None:
    layer = nn.Linear(256, 256).requires_grad_(False)
    quantise(layer, format, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 256)).dtype == torch.bfloat16


def test_a_row_of_zeros_stays_one() -> None:
    layer = nn.Linear(256, 256, bias=False).requires_grad_(False)
    layer.weight[3] = 0
    quantise(layer, "int8", CPU)
    y = layer(torch.randn(2, 256))
    assert y.isfinite().all() and (y[:, 3] == 0).all()
