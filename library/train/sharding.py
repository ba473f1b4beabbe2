"""A UNet whose weights, gradients and optimizer state are shared out among processes (FSDP, by torch's fully_shard).

Each process holds a slice of every weight, gets the others' when a block computes (Zhao et al. 2023, arXiv 2304.11277,
on ZeRO's third stage, arXiv 1910.02054), and moves its own slices. Losses are parts of one sum, so that gradients are
added up and not averaged. Text encoders stay whole.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from library.data.epochs import Shape
from library.device import Compute
from library.errors import InputError
from library.settings import Settings
from library.train.step import Batch, made_up_batch

# Optimizers whose steps are torch's own and look at each number by itself.
FIT = ("AdamW", "SGD", "SGDNesterov")
SMALLEST = Shape((64, 64), 1)

Table = MutableMapping[Any, Any]


def check_sharding(settings: Settings, compute: Compute) -> None:
    """Raises InputError with a sentence for each setting that cannot be where the model is shared out."""
    if not compute.shards:
        return
    wrong = {
        "mixed_precision = fp16": settings.mixed_precision == "fp16",
        "full_bf16": settings.full_bf16,
        "fused_backward_pass": settings.fused_backward_pass,
        "compile": settings.compile != "no",
        "cuda_graphs": settings.cuda_graphs,
        "channels_last": settings.channels_last,
        'memory = "auto"': settings.memory != "as_set",
        "dry_run": settings.dry_run,
        "ema_device = cpu": settings.ema_device == "cpu",
        f"optimizer_type = {settings.optimizer_type}": settings.optimizer_type not in FIT,
    }
    remedy = "leave it out, or start with --config_file configs/accelerate/ddp.yaml or plain python"
    sentences = [f"{name} does not work with FSDP; {remedy}." for name, is_wrong in wrong.items() if is_wrong]
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() in ("1", "true"):
        sentences.append("fsdp_offload_params is not supported; set it to false in the launcher's file.")
    if sentences:
        raise InputError.of(sentences)


def shard(unet: nn.Module, compute: Compute) -> None:
    """Leaves this process its slice of each of the UNet's weights, which learn."""
    unet.requires_grad_(True)
    mesh = init_device_mesh(compute.device.type, (compute.world_size,))
    blocks = [getattr(unet, name) for name in ("down_blocks", "up_blocks")]
    for part in [*(block for several in blocks for block in several), unet.mid_block, unet]:
        fully_shard(part, mesh=mesh)
    for part in unet.modules():
        if isinstance(part, FSDPModule):
            # A plain sum; gloo cannot do any other.
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)


def let_go(unet: nn.Module) -> None:
    """Gives back the others' slices of the outermost layers, which torch keeps for a backward pass; none is to come."""
    for part in unet.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a slice of it alone."""
    return isinstance(tensor, DTensor)


def padded(batches: Sequence[Batch], channels: int, compute: Compute) -> list[Batch]:
    """As many batches as the process with most has, by some that count for nothing: all compute, or all wait."""
    count = torch.tensor([len(batches)], device=compute.device)
    torch.distributed.all_reduce(count, torch.distributed.ReduceOp.MAX)
    missing = int(count) - len(batches)
    if not missing:
        return list(batches)
    idle = batches[-1] if batches else made_up_batch(SMALLEST, channels, compute.device)
    return [*batches, *[replace(idle, weights=torch.zeros_like(idle.weights))] * missing]


def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, a scalar that is the same on every process."""
    slices, whole = _parted(gradients)
    if not slices:
        return torch.nn.utils.get_total_norm(whole)
    norms = [torch.nn.utils.get_total_norm(slices).full_tensor()]  # type: ignore[attr-defined]
    norms += [torch.nn.utils.get_total_norm(whole)] if whole else []
    return torch.linalg.vector_norm(torch.stack(norms))


def shorten(parameters: Sequence[nn.Parameter], longest: float, norm: Tensor) -> None:
    """Shortens gradients whose norm is longer than that, as torch does."""
    slices, whole = _parted(parameters)
    if whole:
        torch.nn.utils.clip_grads_with_norm_(whole, longest, norm)
    for parameter in slices:
        if parameter.grad is not None:
            _slice_of(parameter.grad).mul_((longest / (norm + 1e-6)).clamp(max=1.0))


def take_over(own: Tensor, given: Tensor) -> None:
    """Copies a whole tensor into one's own, or this process's slice of it."""
    if isinstance(own, DTensor):
        _slice_of(own).copy_(_slice_of(_spread(given, own)))
    else:
        own.copy_(given)


def spread_state(state: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    """An optimizer's whole state, with slices of what belongs to `parameters` that are slices."""
    spread = dict(state)
    spread["state"] = {
        number: {name: _like(value, parameters[number]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return spread


@contextmanager
def gathered(tables: Iterable[Table], is_main: bool) -> Iterator[None]:
    """Within it, tables hold whole tensors on the CPU, on the main process, in the places of slices.

    All processes have to come here. Nothing may be computed within it.
    """
    slots = [(table, key) for table in tables for key, value in table.items() if isinstance(value, DTensor)]
    whole: dict[int, Tensor] = {}  # by the slice, so that one weight in two tables is one
    slices = [table[key] for table, key in slots]
    for each in slices:
        if id(each) not in whole:
            found = each.full_tensor().detach().cpu() if is_main else each.full_tensor().new_empty(0)
            whole[id(each)] = nn.Parameter(found) if isinstance(each, nn.Parameter) else found
    try:
        for (table, key), each in zip(slots, slices, strict=True):
            table[key] = whole[id(each)] if is_main else each
        yield
    finally:
        for (table, key), each in zip(slots, slices, strict=True):
            table[key] = each


def _parted(tensors: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Those that are slices, and those that are whole."""
    every = list(tensors)
    return [each for each in every if is_sharded(each)], [each for each in every if not is_sharded(each)]


def _slice_of(tensor: Tensor) -> Tensor:
    """What this process holds of it; no copy."""
    assert isinstance(tensor, DTensor)
    return tensor.to_local()


def _spread(given: Tensor, like: DTensor) -> DTensor:
    """A whole tensor, cut as another is; every process has it, so that nothing is sent."""
    return distribute_tensor(given.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _like(value: Any, parameter: nn.Parameter) -> Any:
    """A number's worth of state as the number itself lies; counts of steps and the like stay whole."""
    fits = isinstance(value, Tensor) and isinstance(parameter, DTensor) and value.shape == parameter.shape
    return _spread(value, parameter) if fits else value  # type: ignore[arg-type]
