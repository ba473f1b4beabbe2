"""The memory that steps really take, measured on a made-up batch before a run begins."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from library.data.epochs import Shape
from library.errors import is_full_memory
from library.settings import Settings
from library.train.step import made_up_batch
from library.train.training import Training

STEPS = 2  # the first makes the optimizer's state, so that the second is like all that follow
PARTS = 2  # batches of a step at most: gradients are there from the second on


class Meter(Protocol):
    """What tells how much of a device's memory was held at once."""

    def begin(self) -> None:
        """Forgets what was held before."""

    def peak_gb(self) -> float:
        """The most since then, in GB."""


@dataclass(frozen=True)
class CudaMeter:
    """What torch has handed out of a GPU's memory."""

    device: torch.device

    def begin(self) -> None:
        """Forgets what was held before."""
        torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gb(self) -> float:
        """The most since then, in GB."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9


def meter_of(device: torch.device) -> Meter | None:
    """The meter of a device; None where a step cannot be measured by itself, as on a CPU."""
    return CudaMeter(device) if device.type == "cuda" else None


def measured_peak_gb(meter: Meter, build: Callable[[], Training], settings: Settings, shape: Shape) -> float:
    """The most memory that building a run and its steps on batches of `shape` hold; infinite where it is not enough."""
    meter.begin()
    try:
        training = build()
        is_of_class = settings.prior_preservation == "distill"  # what a teacher answers takes most
        batch = made_up_batch(shape, training.model.channels, training.compute.device, is_of_class)
        for number in range(STEPS):
            training.step(number, [batch] * min(PARTS, settings.gradient_accumulation_steps))
    except (MemoryError, RuntimeError) as error:
        if not is_full_memory(error):
            raise
        return math.inf
    return meter.peak_gb()
