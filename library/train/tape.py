"""What a forward pass keeps for the backward pass, counted on tensors that have shapes but no data."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from library.data.epochs import Shape
from library.device import Compute
from library.recompute import recipes_of
from library.settings import Settings
from library.train.compiling import uncompiled
from library.train.model import Model


class Layer(NamedTuple):
    """A layer that weights learn in: the bytes kept when the forward pass leaves it, and those of its gradients."""

    kept: int
    gradients: int


class Tape(NamedTuple):
    """The layers in the order of the forward pass, all bytes that it keeps, and what computing again adds to them."""

    layers: list[Layer]
    kept: int
    inside: int


class _Saved:
    """Counts the bytes that autograd keeps for the backward pass, weights left out."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.held = list(weights)  # a freed storage's address would soon be another's
        self.weights = {weight.untyped_storage()._cdata for weight in self.held}
        self.kept: dict[int, Tensor] = {}  # by storage, so that views count once
        self.bytes = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """The hook for autograd; the tensor is held so that its storage's address stays its own."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights and storage._cdata not in self.kept:
            self.kept[storage._cdata] = tensor
            self.bytes += storage.nbytes()
        return tensor


def record(model: Model, compute: Compute, settings: Settings, shape: Shape) -> Tape:
    """The tape of one batch; with gradient checkpointing inputs of blocks are kept, and one block is computed again."""
    units = _checkpointed_units(model.unet) if settings.gradient_checkpointing else []
    if recipes := recipes_of(model.unet):
        recipes.turn(settings.selective_checkpointing)
    with uncompiled():
        tape = _forward(model, compute, shape, [])
        if not units:
            return tape
        model.unet.disable_gradient_checkpointing()
        inside = _forward(model, compute, shape, units).inside
        model.unet.enable_gradient_checkpointing()
    return tape._replace(inside=inside)


def _checkpointed_units(unet: nn.Module) -> list[nn.Module]:
    """The pieces that gradient checkpointing computes again, one at a time: resnets and attentions in the blocks."""
    blocks = [block for block in unet.modules() if hasattr(block, "gradient_checkpointing")]
    lists = [each for block in blocks for each in block.children() if isinstance(each, nn.ModuleList)]
    return [unit for each in lists for unit in each if not hasattr(unit, "gradient_checkpointing")]


def _forward(model: Model, compute: Compute, shape: Shape, units: Sequence[nn.Module]) -> Tape:
    """The tape of a pass that computes nothing; `inside` is what that of `units` keeps that keeps most.

    Where there are none, it is the largest tensor that is made again by itself.
    """
    unet, device, reader, recipes = model.unet, compute.device, model.reader, recipes_of(model.unet)
    (width, height), batch = shape
    condition = reader.read([""] * batch)  # real numbers, for frozen encoders remember them
    growth, again = [0], [0]
    layers: list[Layer] = []
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        modules = (unet, *reader.encoders)
        real = [each for module in modules for each in (*module.parameters(), *module.buffers())]
        saved = _Saved([*real, *(fake.from_tensor(each) for each in real)])
        handles = []
        for unit in units:
            handles.append(unit.register_forward_pre_hook(lambda *_: growth.append(-saved.bytes)))
            handles.append(unit.register_forward_hook(lambda *_: growth.append(growth.pop() + saved.bytes)))
        for layer, own in _learning(modules):
            handles.append(layer.register_forward_hook(lambda *_, own=own: layers.append(Layer(saved.bytes, own))))
        if recipes:
            recipes.watch = partial(_watch, saved, again)
        with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor), model.number_format(compute):
            if reader.trained:
                condition = reader.read([""] * batch)
            noisy = torch.zeros(batch, model.channels, height // 8, width // 8, device=device)
            timesteps = torch.zeros(batch, dtype=torch.int64, device=device)
            model.family.predict(unet, noisy, timesteps, condition)
        for handle in handles:
            handle.remove()
        if recipes:
            recipes.watch = None
        return Tape(layers, saved.bytes, max(*growth, *again))


def _watch(saved: _Saved, again: list[int], kept: Tensor, made: int) -> None:
    """Counts what is kept for a recipe, and what is made by it."""
    saved.keep(kept)
    again.append(made)


def _learning(modules: Iterable[nn.Module]) -> list[tuple[nn.Module, int]]:
    """The layers with weights of their own that learn, and the bytes of these weights' gradients.

    An adapter's layer counts as one: what is inside it may be computed without being called.
    """
    found, inside = [], set()
    for module in modules:
        for layer in module.modules():
            if layer in inside:
                continue
            adapts = isinstance(layer, BaseTunerLayer)
            inside |= set(layer.modules()) if adapts else set()
            own = sum(each.nbytes for each in layer.parameters(recurse=adapts) if each.requires_grad)
            if own:
                found.append((layer, own))
    return found
