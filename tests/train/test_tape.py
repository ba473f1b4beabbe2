"""What a forward pass keeps, counted without data, against what autograd really keeps."""

import pytest
import torch

from library.data.epochs import Shape
from library.train.model import build_model
from library.train.tape import record


@pytest.fixture
def build(settings_of, family, compute):
    """The toy's settings and model."""

    def _build(**changes):
        settings = settings_of(**changes)
        return settings, build_model(settings, family, compute, 4, ["", "a"])

    return _build


def activations(model, compute, settings, size: tuple[int, int]) -> int:
    """What is kept, with what computing again adds."""
    tape = record(model, compute, settings, Shape(size, settings.train_batch_size))
    return tape.kept + tape.inside


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
    predicted = activations(model, compute, settings, (64, 64))
    assert predicted == really_kept(model, settings) > 10**6


def test_it_grows_with_batch_and_size(build, compute) -> None:
    settings, model = build(network_train_unet_only=True, train_batch_size=2)
    one = activations(model, compute, settings, (64, 64))
    assert 3 < activations(model, compute, settings, (128, 128)) / one < 8
    four, _ = build(network_train_unet_only=True, train_batch_size=4)
    # The matrices of layers that are computed as one are kept side by side, whatever the batch.
    assert activations(model, compute, four, (64, 64)) == pytest.approx(2 * one, rel=0.01)


def test_checkpointing_takes_less(build, compute) -> None:
    settings, model = build(network_train_unet_only=True)
    whole = activations(model, compute, settings, (128, 128))
    settings, model = build(network_train_unet_only=True, gradient_checkpointing=True)
    assert really_kept(model, settings) < activations(model, compute, settings, (128, 128)) < 0.7 * whole
    assert model.unet.is_gradient_checkpointing


def test_layers_in_their_order(build, compute) -> None:
    settings, model = build(network_train_unet_only=True)
    tape = record(model, compute, settings, Shape((64, 64), 2))
    kept = [layer.kept for layer in tape.layers]
    assert kept == sorted(kept) and kept[0] < kept[-1] <= tape.kept
    assert sum(layer.gradients for layer in tape.layers) == sum(each.nbytes for each in model.learner.parameters)
    assert not any(each._forward_hooks for each in model.unet.modules())
    assert not any(each._forward_pre_hooks for each in model.unet.modules() if each is not model.unet)  # it has its own
