"""How much memory a run will take, counted without training."""

from collections import Counter
from collections.abc import Sequence

import psutil
import torch
from torch import Tensor, nn

from library.data.epochs import Shape
from library.device import Compute
from library.optim.optimizers import build_optimizer
from library.quantised import quantised_bytes
from library.settings import Settings
from library.train.model import Model
from library.train.tape import record

SAMPLE = 64  # rows and columns of the matrices on which an optimizer's state is measured


def predicted_peak_gb(model: Model, compute: Compute, settings: Settings, shapes: Sequence[Shape]) -> float:
    """The most memory that training will hold on the device, in GB (10^9 bytes), for the largest batch of `shapes`.

    Weights and their average, the optimizer's state, and the most that gradients and what the forward pass keeps take
    up together; the allocator's slack and the driver's own share (some hundred MB on a GPU) come on top. On a CPU it
    is the memory of the whole process.
    """
    averages = model.learner.averages.averages if model.learner.averages else []
    if compute.device.type == "cpu":
        fixed = psutil.Process().memory_info().rss
    else:
        lasting = [each for module in _resident(model) for each in (*module.parameters(), *module.buffers())]
        # A weight that is kept in few bits has left one number behind, which only looks like many.
        fixed = quantised_bytes(model.unet) + sum(
            min(each.nbytes, each.untyped_storage().nbytes())
            for each in (*lasting, *averages)
            if each.device.type != "cpu"
        )
    moving = optimizer_bytes(model, settings, compute.device) + _passing(model, compute, settings, largest(shapes))
    return (fixed + moving) / 1e9


def largest(shapes: Sequence[Shape]) -> Shape:
    """The batch of most pixels."""
    return max(shapes, key=lambda shape: shape.size[0] * shape.size[1] * shape.batch_size)


def _passing(model: Model, compute: Compute, settings: Settings, shape: Shape) -> int:
    """Bytes that come and go in a step, at the moment when they are most.

    What the forward pass keeps is given back layer by layer in the backward pass, while gradients come.
    """
    trained = model.learner.parameters
    gradients, widest = sum(each.nbytes for each in trained), max(each.numel() for each in trained)
    tape = record(model, compute, settings, shape)
    # One by one a weight in bf16 is moved: it, its gradient and random numbers in 32 bits.
    moved = 12 * widest if settings.full_bf16 else 0
    # autocast remembers a weight in half precision until the forward pass ends, also where that keeps nothing else.
    is_cast = model.mixed and compute.dtype != torch.float32 and settings.gradient_checkpointing
    casts = sum(2 * each.numel() for each in trained if each.dtype == torch.float32) if is_cast else 0
    before = gradients if settings.gradient_accumulation_steps > 1 or model.prior else 0
    moments = [before + tape.kept + casts, moved + (0 if settings.fused_backward_pass else gradients)]
    if settings.fused_backward_pass:
        moments.append(tape.kept + tape.inside + moved + 4 * widest)
        return max(moments)
    arrived = before or gradients - sum(layer.gradients for layer in tape.layers)
    for layer in reversed(tape.layers):
        arrived += 0 if before else layer.gradients
        moments.append(layer.kept + tape.inside + arrived)
    return max(moments)


def optimizer_bytes(model: Model, settings: Settings, device: torch.device) -> float:
    """Bytes of the optimizer's state for all that learns."""
    numbers: Counter[tuple[int, ...]] = Counter()
    for parameter in model.learner.parameters:
        numbers[tuple(parameter.shape[2:])] += parameter.numel()
    return sum(count * state_bytes(settings, device, kernel) for kernel, count in numbers.items())


def _resident(model: Model) -> list[nn.Module]:
    """The modules that stay on the device while training: a frozen text encoder leaves it once it has been read."""
    held = [each for keeper in (model.prior, model.teacher) if keeper for each in keeper.held]
    return [model.unet, *held, *(model.reader.encoders if model.reader.stays else [])]


def state_bytes(settings: Settings, device: torch.device, kernel: tuple[int, ...] = ()) -> float:
    """Bytes of optimizer state for each trained number, seen on weights of few channels with that kernel."""
    parameter = nn.Parameter(torch.zeros(SAMPLE, SAMPLE, *kernel, device=device))
    parameter.grad = torch.zeros_like(parameter)
    optimizer = build_optimizer(settings.optimizer_type, [{"params": [parameter], "lr": 1e-4}], settings.optimizer_args)
    optimizer.step()
    state = optimizer.state[parameter].values()
    return sum(each.nbytes for each in state if isinstance(each, Tensor)) / parameter.numel()
