"""The predicted memory against what autograd really keeps, counted with real tensors."""

import pytest
import torch

from library.data.epochs import Shape
from library.train.memory import _activations, _state_bytes, predicted_peak_gb
from library.train.model import build_model

SMALL, LARGE = Shape((64, 64), 2), Shape((128, 128), 2)


@pytest.fixture
def build(settings_of, family, compute):
    """The toy's settings and model."""

    def _build(**changes):
        settings = settings_of(**changes)
        return settings, build_model(settings, family, compute, 4, ["", "a"])

    return _build


def really_kept(model, settings) -> int:
    """The bytes that a forward pass of one batch of 64 x 64 pixels keeps for the backward pass."""
    weights = {
        each.untyped_storage().data_ptr() for m in (model.unet, *model.reader.encoders) for each in m.parameters()
    }
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept[place] = tensor
        return tensor

    batch = settings.train_batch_size
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        condition = model.reader.read([""] * batch)
        model.family.predict(model.unet, torch.zeros(batch, 4, 8, 8), torch.zeros(batch, dtype=torch.int64), condition)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("changes", [{}, {"network_train_unet_only": True, "train_batch_size": 4}])
def test_what_the_forward_pass_keeps(build, compute, changes: dict) -> None:
    settings, model = build(**changes)
    predicted = _activations(model, compute, settings, Shape((64, 64), settings.train_batch_size))
    assert predicted == really_kept(model, settings) > 10**6


def test_it_grows_with_batch_and_size(build, compute) -> None:
    settings, model = build(network_train_unet_only=True)
    one = _activations(model, compute, settings, SMALL)
    assert 3 < _activations(model, compute, settings, LARGE) / one < 8
    assert _activations(model, compute, settings, Shape((64, 64), 4)) == 2 * one


def test_checkpointing_takes_less(build, compute) -> None:
    settings, model = build(network_train_unet_only=True)
    whole = _activations(model, compute, settings, LARGE)
    settings, model = build(network_train_unet_only=True, gradient_checkpointing=True)
    assert really_kept(model, settings) < _activations(model, compute, settings, LARGE) < 0.7 * whole
    assert model.unet.is_gradient_checkpointing


@pytest.mark.parametrize(("optimizer", "bytes_each"), [("AdamW", 8), ("Lion", 4), ("SGDNesterov", 4), ("AdamW8bit", 2)])
def test_optimizer_state(settings_of, compute, optimizer: str, bytes_each: float) -> None:
    found = _state_bytes(settings_of(optimizer_type=optimizer), compute.device)
    assert found == pytest.approx(bytes_each, rel=0.3 if optimizer == "AdamW8bit" else 0.01)


def test_the_sum(build, compute) -> None:
    settings, model = build()
    small = predicted_peak_gb(model, compute, settings, [SMALL])
    both = predicted_peak_gb(model, compute, settings, [SMALL, LARGE])
    activations = [_activations(model, compute, settings, shape) for shape in (SMALL, LARGE)]
    assert both - small == pytest.approx((activations[1] - activations[0]) / 1e9, abs=0.02)
    trained = sum(each.numel() for each in model.learner.parameters)
    many = Shape((64, 64), 99)
    assert predicted_peak_gb(model, compute, settings, [many, LARGE]) > both, "the batch counts too"
    assert small > (activations[0] + trained * 12) / 1e9
