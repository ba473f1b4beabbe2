"""How fast a step could be at most: its arithmetic, at the rate at which the device multiplies large matrices."""

from functools import cache, partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from library.bench.contestants import Step
from library.bench.rounds import seconds
from library.frozen import use_frozen_layers

SIDES = {"cuda": 8192, "cpu": 2048}  # large enough to be bound by arithmetic, small enough for the memory
TRIES = 5


def arithmetic(step: Step) -> int:
    """The floating-point operations of one step, counted: products of matrices, convolutions and attention."""
    with FlopCounterMode(display=False) as counter:
        step(0)
    return int(counter.get_total_flops())


@cache
def top_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the device's best product of two large matrices in that format.

    On a CPU two libraries can do it, and the faster one counts.
    """
    side = SIDES.get(device.type, SIDES["cpu"])
    plain, packed = (nn.Linear(side, side, bias=False, device=device, dtype=dtype).requires_grad_(False) for _ in "12")
    use_frozen_layers([packed], ["ahead"])
    rows = torch.randn(side, side, device=device, dtype=dtype)
    times = [seconds(partial(layer, rows), device) for _ in range(TRIES + 1) for layer in (plain, packed)]
    return 2 * side**3 / min(times[2:])
