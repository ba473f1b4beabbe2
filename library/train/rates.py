"""The learning rates of a run: that of each part that learns, and their course."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from library.errors import InputError
from library.log import warn
from library.optim.custom_schedules import custom_schedule
from library.optim.optimizers import (
    averages_itself,
    build_optimizer,
    check_optimizer,
    finds_own_rate,
    needs_one_rate,
)
from library.optim.schedules import Course, build_schedule
from library.settings import Settings
from library.settings.whole_checks import text_learns, text_rates
from library.train.embedding import PART, embedding_rate
from library.train.loraplus import loraplus_ratios

TEXT_PARTS = ("text_encoder", "text_encoder_2")
LOWEST_OWN = 0.1  # below it an optimizer that finds its own rate hardly learns


def part_rates(settings: Settings, text_parts: Sequence[str] = TEXT_PARTS[:1]) -> dict[str, float]:
    """The learning rate of each part that learns; a part with rate 0 is left out and stays frozen.

    Where the optimizer has one rate for all, that is the highest. `text_parts` are the family's text encoders, one or
    two.
    """
    rates = _told_rates(settings, text_parts)
    return dict.fromkeys(rates, max(rates.values())) if needs_one_rate(settings.optimizer_type) else rates


def _told_rates(settings: Settings, text_parts: Sequence[str]) -> dict[str, float]:
    """The rate of each part as the settings have it."""
    rates = {}
    if not settings.network_train_text_encoder_only:
        rates["unet"] = settings.learning_rate if settings.unet_lr is None else settings.unet_lr
    if text_learns(settings):
        rates |= dict(zip(text_parts, text_rates(settings), strict=False))
    rates = {part: rate for part, rate in rates.items() if rate > 0}
    if settings.embedding_only:
        rates = {}
    if settings.token_string:
        rates[PART] = embedding_rate(settings)
    if not rates:
        raise InputError("learning_rate, unet_lr and text_encoder_lr leave nothing to learn; set one above 0.")
    return rates


def check_learning(settings: Settings, processes: int = 1) -> None:
    """Finds wrong rates and optimizer_args while nothing has been loaded or written yet; raises InputError."""
    if settings.fused_backward_pass and processes > 1:
        raise InputError(
            f"fused_backward_pass cannot be set with {processes} processes, because it keeps no gradients to add up; "
            "leave it out, or start one process."
        )
    # How many text encoders there are shows when the model is opened.
    text_parts = TEXT_PARTS if settings.learning_rate_te2 is not None else TEXT_PARTS[:1]
    told, rates = _told_rates(settings, text_parts), part_rates(settings, text_parts)
    ratios = loraplus_ratios(settings, list(rates))
    highest = max(rates.values())
    _check_rates(settings, {*rates.values(), *(rates[part] * ratio for part, ratio in ratios.items())})
    check_optimizer(settings.optimizer_type, settings.optimizer_args, highest, settings.lr_warmup_steps > 0)
    if told != rates:
        listed = ", ".join(f"{rate:g} for {part}" for part, rate in told.items())
        warn(
            f"{settings.optimizer_type} finds its step size by itself and has one learning rate for all parts, not "
            f"{listed}; all learn with the highest, {highest:g}."
        )
    if finds_own_rate(settings.optimizer_type) and highest < LOWEST_OWN:
        warn(
            f"{settings.optimizer_type} finds its step size by itself, and learning rates multiply it; with {highest} "
            "it will hardly learn, so set them to 1."
        )
    for name in ("scale_weight_norms", "token_string"):
        if getattr(settings, name) and _averages(settings, highest):
            raise InputError(
                f"{name} cannot be set with {settings.optimizer_type}, as it keeps weights within a length and what is "
                "saved is an average of others; leave it out, or choose another optimizer_type."
            )
    _check_schedule(settings)


def warmup_steps(settings: Settings, steps: int) -> int:
    """`lr_warmup_steps` in steps; below 1 it is a part of the run."""
    return _count(settings.lr_warmup_steps, steps)


def course_of(settings: Settings, steps: int) -> Course:
    """The course of the learning rate in a run of so many steps."""
    decay = settings.lr_decay_steps
    return Course(
        steps,
        warmup_steps(settings, steps),
        None if decay is None else _count(decay, steps),
        settings.lr_scheduler_num_cycles,
        settings.lr_scheduler_power,
        settings.lr_scheduler_timescale,
        settings.lr_scheduler_min_lr_ratio,
        step_rules(settings),
    )


def step_rules(settings: Settings) -> str:
    """The rules of piecewise_constant among lr_scheduler_args, with or without quotation marks."""
    found = [each.partition("=")[2] for each in settings.lr_scheduler_args if each.startswith("step_rules=")]
    return found[-1].strip("\"' ") if found else ""


def make_schedule(
    settings: Settings, optimizer: torch.optim.Optimizer, steps: int, spans: Mapping[str, range] | None = None
) -> LRScheduler:
    """The schedule that the settings name: one of the table's, or any other class."""
    if settings.lr_scheduler_type:
        return custom_schedule(settings.lr_scheduler_type, optimizer, settings.lr_scheduler_args)
    return build_schedule(settings.lr_scheduler, optimizer, course_of(settings, steps), spans)


def _check_rates(settings: Settings, rates: set[float]) -> None:
    """Finds different rates where the optimizer needs one, which building it for all of them tells."""
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in sorted(rates)]
    build_optimizer(settings.optimizer_type, groups, settings.optimizer_args)


def _check_schedule(settings: Settings) -> None:
    """Finds a schedule that cannot be built, and one that goes wrong in its first step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = make_schedule(settings, optimizer, 100)
    optimizer.step()
    schedule.step()


def _averages(settings: Settings, rate: float) -> bool:
    """Whether the optimizer learns on an average of the weights."""
    group = {"params": [nn.Parameter(torch.zeros(1))], "lr": rate}
    return averages_itself(build_optimizer(settings.optimizer_type, [group], settings.optimizer_args))


def _count(number: int | float, steps: int) -> int:
    """Steps; below 1 a part of the run."""
    return round(number * steps) if number < 1 else int(number)
