"""Timing of steps in turns, so that whatever else the machine does falls on all contestants alike."""

import gc
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from library.bench.contestants import Step
from library.device import free_memory


class Timing(NamedTuple):
    """Milliseconds a step, the median over rounds, and the memory in GB at its peak; None where it is not measured."""

    ms: float
    peak_gb: float | None


def race(contestants: Mapping[str, Step], device: torch.device, rounds: int, steps: int) -> dict[str, Timing]:
    """Lets every contestant take `steps` steps in each of `rounds` rounds, in turn, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, step in contestants.items():
            taken = seconds(partial(_take, step, range(number * steps, (number + 1) * steps)), device)
            if number:
                times[name].append(taken / steps * 1e3)
    return {name: Timing(median(found), None) for name, found in times.items()}


def alone(step: Step, device: torch.device, rounds: int, steps: int) -> Timing:
    """The same for one contestant that has the device for itself, with its peak memory where the device counts it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    (timing,) = race({"alone": step}, device, rounds, steps).values()
    peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    return Timing(timing.ms, peak)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long some work takes, until the device has done all of it."""
    _finish(device)
    begun = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - begun


def clean(device: torch.device) -> None:
    """Leaves nothing of the last contestant in memory."""
    gc.collect()
    free_memory(device)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """The rows as lines of text."""
    lines = [f"{'work':34}{'ours':>12}{'reference':>12}{'ratio':>8}{'of limit':>10}{'first':>9}{'peak':>10}"]
    for row in rows:
        peak = f"{row['peak_gb']:.2f} GB" if row["peak_gb"] is not None else "-"
        ours, reference = f"{row['ours_ms']:.1f} ms", f"{row['reference_ms']:.1f} ms"
        limit, first = f"{row['of_limit']:.1%}", f"{row['first_step_s']:.1f} s"
        lines.append(f"{row['work']:34}{ours:>12}{reference:>12}{row['ratio']:>8.2f}{limit:>10}{first:>9}{peak:>10}")
    return "\n".join(lines)


def _take(step: Step, numbers: Iterable[int]) -> None:
    for number in numbers:
        step(number)


def _finish(device: torch.device) -> None:
    """Waits until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
