"""How fast a step could be at most: its arithmetic, at the rate at which the device multiplies large matrices."""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from library.bench.contestants import Step
from library.bench.rounds import seconds

SIDES = {"cuda": 8192, "cpu": 2048}  # large enough to be bound by arithmetic, small enough for the memory
TRIES = 5


def arithmetic(step: Step) -> int:
    """The floating-point operations of one step, counted: products of matrices, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        step(0)
    return int(counter.get_total_flops())


@cache
def top_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the device's best product of two large matrices in that format."""
    side = SIDES.get(device.type, SIDES["cpu"])
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times = [seconds(lambda: one @ other, device) for _ in range(TRIES + 1)]
    return 2 * side**3 / min(times[1:])
