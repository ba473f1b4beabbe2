"""The device, the processes and the number formats of a run, by way of accelerate."""

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta

import psutil
import torch
import torch.distributed
from accelerate import PartialState
from torch import Tensor

from library.errors import InputError
from library.memory_limits import memory_left

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# Caching and previews happen while other processes wait, so they may wait for long.
PATIENCE = timedelta(hours=6)

FSDP = "ACCELERATE_USE_FSDP"
# Words by which accelerate's launcher says how a model is to be split among the processes.
SPLITTERS = {
    FSDP: "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron",
}

TRANSFER = 1 << 26  # numbers that go to the other processes at once


@dataclass(frozen=True)
class Compute:
    """Where this process computes, and which of how many it is.

    `dtype` is that of frozen weights and activations; trained weights stay in float32. Where a process `shards`, it
    holds slices of a model whose weights learn.
    """

    device: torch.device
    dtype: torch.dtype
    rank: int
    world_size: int
    state: PartialState
    shards: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> "Compute":
        """This process as if there were no others, for what must not leave them waiting where it fails."""
        return replace(self, rank=0, world_size=1, shards=False)

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision for a forward pass; nothing where all is float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def wait(self) -> None:
        """Until every process has come here."""
        self.state.wait_for_everyone()

    def main_first(self) -> AbstractContextManager[object]:
        """What is inside is done by the main process, and then by all others, which find what that has left."""
        first: AbstractContextManager[object] = self.state.main_process_first()
        return first

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Adds up every parameter's gradient over all processes, in few transfers.

        A parameter without one gets zeros, in one process as in several, because optimizers treat it differently.
        An adapter's gradients are a few megabytes, so that one flat sum costs less than hooks would; those of a whole
        model go in pieces, so that no second copy of all is needed.
        """
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        if self.world_size == 1:
            return
        for piece in _pieces(gradients):
            flat = torch.cat([gradient.flatten() for gradient in piece])
            torch.distributed.all_reduce(flat)
            for gradient, part in zip(piece, flat.split([g.numel() for g in piece]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any process; all of them get the same answer."""
        if self.world_size == 1:
            return flag
        return bool(self.sum_over_processes(torch.tensor(float(flag), device=self.device)) > 0)

    def sum_over_processes(self, value: Tensor) -> Tensor:
        """`value` added up over all processes; the same tensor on each."""
        if self.world_size > 1:
            torch.distributed.all_reduce(value)
        return value


def _pieces(gradients: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """The gradients in a row, as many together as make `TRANSFER` numbers."""
    piece: list[Tensor] = []
    for gradient in gradients:
        piece.append(gradient)
        if sum(each.numel() for each in piece) >= TRANSFER:
            yield piece
            piece = []
    if piece:
        yield piece


def start_compute(mixed_precision: str, may_shard: bool = False) -> Compute:
    """Finds the device and, behind a launcher, the other processes.

    Without a GPU several processes talk by gloo on the CPU. A launcher that promised several processes of which
    each believes to be alone is refused: they would write the same files. So is one that asks for what would be
    passed over in silence: FSDP is there where all weights learn (`may_shard`).
    """
    asked = [word for word in SPLITTERS if os.environ.get(word, "").lower() in ("1", "true")]
    for word in asked:
        if word != FSDP or not may_shard:
            raise InputError(
                f"the launcher asks for {SPLITTERS[word]}, which splits a model among the processes; here each process "
                "holds it whole, but for FSDP in train_dreambooth.py without a network. Start with --config_file "
                "configs/accelerate/ddp.yaml, or with plain python."
            )
    on_cpu = not torch.cuda.is_available() and not torch.backends.mps.is_available()
    expected = int(os.environ.get("WORLD_SIZE", "1"))
    waiting = {"timeout": PATIENCE} if expected > 1 else {}
    state = PartialState(cpu=on_cpu, **waiting)
    if state.num_processes != expected:
        raise InputError(
            f"the launcher started {expected} processes, but accelerate sees {state.num_processes}: "
            "start with `accelerate launch --multi_gpu --num_processes N` (it serves CPUs too) or with plain python."
        )
    # Beside others accelerate calls it cpu:0, which tensors without data take for another device than cpu.
    device = torch.device("cpu") if state.device.type == "cpu" else state.device
    shards = bool(asked) and expected > 1
    return Compute(device, DTYPES[mixed_precision], state.process_index, state.num_processes, state, shards)


def pick_device(name: str | None) -> torch.device:
    """The device of that name, such as "cpu" or "cuda:1"; without one the GPU if there is one.

    Raises InputError for a device that is not there.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"--device {name}: there is no such device here; cpu always is.") from None
    return device


def peak_memory_gb(device: torch.device) -> float:
    """The most memory that this process has held so far, in GB: the GPU's own, or the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 1e9
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def memory_room_gb(device: torch.device) -> float:
    """The memory that this process holds or could get now, in GB; of a CPU's free memory its share.

    A container's limit and those of `ulimit` count.
    """
    if device.type == "cuda":
        return (torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)) / 1e9
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE") or 1)
    return (psutil.Process().memory_info().rss + memory_left(sharing)) / 1e9


def free_memory(device: torch.device) -> None:
    """Hands back what freed tensors still occupy."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)  # glibc keeps pieces of tens of MB for later
