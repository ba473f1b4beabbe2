"""How much memory a run will take, counted without training: a forward pass of tensors that have shapes but no data."""

from collections.abc import Iterable, Sequence

import psutil
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from library.data.epochs import Shape
from library.device import Compute
from library.optim.optimizers import build_optimizer
from library.settings import Settings
from library.train.model import Model


class _Saved:
    """Counts the bytes that autograd keeps for the backward pass, weights left out."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.held = list(weights)  # a freed storage's address would soon be another's
        self.weights = {weight.untyped_storage()._cdata for weight in self.held}
        self.kept: dict[int, Tensor] = {}  # by storage, so that views count once

    def keep(self, tensor: Tensor) -> Tensor:
        """The hook for autograd; the tensor is held so that its storage's address stays its own."""
        storage = tensor.untyped_storage()._cdata
        if storage not in self.weights:
            self.kept[storage] = tensor
        return tensor

    @property
    def bytes(self) -> int:
        """All that is kept so far."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.kept.values())


def predicted_peak_gb(model: Model, compute: Compute, settings: Settings, shapes: Sequence[Shape]) -> float:
    """The most memory that training will hold on the device, in GB (10^9 bytes), for the largest batch of `shapes`.

    Weights, gradients, the optimizer's state, and what the forward pass keeps; the allocator's slack and the
    driver's own share (some hundred MB on a GPU) come on top. On a CPU it is the memory of the whole process.
    """
    trained = model.learner.parameters
    if compute.device.type == "cpu":
        fixed = psutil.Process().memory_info().rss
    else:
        fixed = sum(each.nbytes for module in _resident(model) for each in (*module.parameters(), *module.buffers()))
    gradients = sum(parameter.nbytes for parameter in trained)
    states = sum(parameter.numel() for parameter in trained) * _state_bytes(settings, compute.device)
    largest = max(shapes, key=lambda shape: shape.size[0] * shape.size[1] * shape.batch_size)
    return (fixed + gradients + states + _activations(model, compute, settings, largest)) / 1e9


def _resident(model: Model) -> list[nn.Module]:
    """The modules that stay on the device while training: a frozen text encoder leaves it once it has been read."""
    return [model.unet, *(model.reader.encoders if model.reader.stays else [])]


def _state_bytes(settings: Settings, device: torch.device) -> float:
    """Bytes of optimizer state for each trained number, seen on one small matrix."""
    parameter = nn.Parameter(torch.zeros(64, 64, device=device))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = build_optimizer(settings.optimizer_type, [{"params": [parameter], "lr": 1e-4}], settings.optimizer_args)
    optimizer.step()
    state = optimizer.state[parameter].values()
    return sum(each.nbytes for each in state if isinstance(each, Tensor)) / parameter.numel()


def _activations(model: Model, compute: Compute, settings: Settings, shape: Shape) -> int:
    """Bytes that one batch's forward passes keep; with checkpointing, inputs of blocks and one block's inside."""
    units = _checkpointed_units(model.unet) if settings.gradient_checkpointing else []
    if not units:
        return _forward(model, compute, shape, [])[0]
    kept = _forward(model, compute, shape, [])[0]
    model.unet.disable_gradient_checkpointing()
    _, largest = _forward(model, compute, shape, units)
    model.unet.enable_gradient_checkpointing()
    return kept + largest


def _checkpointed_units(unet: nn.Module) -> list[nn.Module]:
    """The pieces that gradient checkpointing computes again, one at a time: resnets and attentions in the blocks."""
    blocks = [block for block in unet.modules() if hasattr(block, "gradient_checkpointing")]
    lists = [each for block in blocks for each in block.children() if isinstance(each, nn.ModuleList)]
    return [unit for each in lists for unit in each if not hasattr(unit, "gradient_checkpointing")]


def _forward(model: Model, compute: Compute, shape: Shape, units: Sequence[nn.Module]) -> tuple[int, int]:
    """Bytes kept by the whole pass, and by that of `units` that keeps most."""
    unet, device, reader = model.unet, compute.device, model.reader
    (width, height), batch = shape
    condition = reader.read([""] * batch)  # real numbers, for frozen encoders remember them
    growth: list[int] = [0]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        modules = (unet, *reader.encoders)
        real = [each for module in modules for each in (*module.parameters(), *module.buffers())]
        saved = _Saved([*real, *(fake.from_tensor(each) for each in real)])
        handles = []
        for unit in units:
            handles.append(unit.register_forward_pre_hook(lambda *_: growth.append(-saved.bytes)))
            handles.append(unit.register_forward_hook(lambda *_: growth.append(growth.pop() + saved.bytes)))
        with torch.autograd.graph.saved_tensors_hooks(saved.keep, lambda tensor: tensor), compute.autocast():
            if reader.trained:
                condition = reader.read([""] * batch)
            noisy = torch.zeros(batch, unet.config.in_channels, height // 8, width // 8, device=device)
            timesteps = torch.zeros(batch, dtype=torch.int64, device=device)
            model.family.predict(unet, noisy, timesteps, condition)
        for handle in handles:
            handle.remove()
        return saved.bytes, max(growth)
