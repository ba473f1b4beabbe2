"""What of the settings may change so that a run takes less memory, in the order of least harm."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from library.data.epochs import Shape
from library.device import Compute, memory_room_gb
from library.lookup import OPTIMIZERS, find_name
from library.recompute import keep_no_cheap_tensors, recipes_of
from library.settings import Settings
from library.settings.checks import find_mistakes
from library.train.memory import predicted_peak_gb, state_bytes
from library.train.model import Model, keep_less
from library.train.resume import optimizer_before

USABLE = 0.9  # of the memory that is there: the allocator's slack and a prediction's error come on top


def usable_gb(device: torch.device) -> float:
    """The memory that a run may be predicted to take on the device, in GB."""
    return USABLE * memory_room_gb(device)


def thriftier(settings: Settings, compute: Compute) -> Iterator[Settings]:
    """The settings as they are, and then with ever more harm; all learn from the same effective batches.

    Selective checkpointing takes little time, gradient checkpointing a third. An 8-bit optimizer rounds its state, so
    that smaller batches, accumulated to the same number, are tried with it only where they do not do without.
    """
    yield settings
    optimizer, known = _eight_bit(settings, compute), set(find_mistakes(settings, []))
    selective = replace(settings, selective_checkpointing=True)
    if selective != settings and known.issuperset(find_mistakes(selective, [])):
        yield selective
    less = replace(settings, gradient_checkpointing=True, selective_checkpointing=False)
    for parts in _divisors(math.gcd(*_batch_sizes(settings))):
        for name in filter(None, (settings.optimizer_type, optimizer)):
            candidate = replace(_cut(less, parts), optimizer_type=name)
            if candidate != settings and known.issuperset(find_mistakes(candidate, [])):
                yield candidate


def thrifty_peak_gb(
    model: Model, compute: Compute, settings: Settings, candidate: Settings, shapes: Sequence[Shape]
) -> float:
    """The memory that is predicted for `candidate`, in GB, on the model of `settings`.

    Where it computes activations again, the model does so from then on.
    """
    if candidate.selective_checkpointing and not recipes_of(model.unet):
        keep_no_cheap_tensors(model.unet)
    if candidate.gradient_checkpointing and not settings.gradient_checkpointing:
        keep_less(*model.learning())
    return predicted_peak_gb(model, compute, candidate, thrifty_shapes(settings, candidate, shapes))


def thrifty_shapes(settings: Settings, candidate: Settings, shapes: Sequence[Shape]) -> list[Shape]:
    """The batches of `settings`, cut as `candidate` cuts them."""
    parts = candidate.gradient_accumulation_steps // settings.gradient_accumulation_steps
    return [shape._replace(batch_size=shape.batch_size // parts) for shape in shapes]


def change_in_words(before: Settings, after: Settings) -> str:
    """What differs between two settings, as they are written."""
    names = (
        "selective_checkpointing",
        "gradient_checkpointing",
        "optimizer_type",
        "train_batch_size",
        "gradient_accumulation_steps",
    )
    changed = [f"{name} = {_written(getattr(after, name))}" for name in names if _differs(before, after, name)]
    sizes = [(one.batch_size, other.batch_size) for one, other in zip(before.datasets, after.datasets, strict=True)]
    changed += [f"batch_size = {other} instead of {one} in [[datasets]]" for one, other in sizes if one != other]
    *front, last = changed
    return f"{', '.join(front)} and {last}" if front else last


def advice(model: Model, compute: Compute, settings: Settings, shapes: Sequence[Shape], limit: float) -> str:
    """A sentence: which of the settings are predicted to take less than `limit` GB, or that none are."""
    least, compute = math.inf, compute.alone
    for candidate in thriftier(settings, compute):
        peak = thrifty_peak_gb(model, compute, settings, candidate, shapes)
        if peak <= limit and candidate != settings:
            return (
                f"{peak:.2f} GB are predicted with {change_in_words(settings, candidate)}; set that, or let "
                'memory = "auto" choose.'
            )
        least = min(least, peak)
    return (
        f"at least {least:.2f} GB are predicted whatever is done about batches, optimizer and checkpointing; lower "
        "resolution or network_dim, or use a device with more memory."
    )


def without_prediction(settings: Settings, compute: Compute) -> str:
    """A sentence: the settings that take least; empty where these do."""
    *_, least = thriftier(settings, compute.alone)
    if least == settings:
        return ""
    return (
        f"the memory is full; {change_in_words(settings, least)} would take least and learn from the same pictures in "
        'each step. Set that, or let memory = "auto" choose, or lower the resolution.'
    )


def _eight_bit(settings: Settings, compute: Compute) -> str | None:
    """The optimizer of the settings with its state in 8 bits, where every process can take a step with it.

    A run that goes on keeps the optimizer that it began with.
    """
    name = f"{find_name(settings.optimizer_type, OPTIMIZERS)}8bit"
    if name not in OPTIMIZERS or optimizer_before(settings):
        return None
    try:
        state_bytes(replace(settings, optimizer_type=name), compute.device)
        works = True
    except Exception:  # whatever a library raises that is not there, or not for this device, or told what it cannot do
        works = False
    return None if compute.any(not works) else name


def _batch_sizes(settings: Settings) -> list[int]:
    """The batch size of every folder."""
    return [table.batch_size or settings.train_batch_size for table in settings.datasets] or [settings.train_batch_size]


def _divisors(number: int) -> list[int]:
    return [each for each in range(1, number + 1) if number % each == 0]


def _cut(settings: Settings, parts: int) -> Settings:
    """Every batch in so many parts that are accumulated."""
    tables = tuple(
        replace(table, batch_size=table.batch_size // parts) if table.batch_size else table
        for table in settings.datasets
    )
    is_used = not tables or any(table.batch_size is None for table in tables)
    return replace(
        settings,
        train_batch_size=settings.train_batch_size // parts if is_used else settings.train_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps * parts,
        datasets=tables,
    )


def _differs(before: Settings, after: Settings, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value}"
