"""What settings of the loss, the noise and the rate's course must not say together, and what then has no effect."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from library.settings.fields import DEFAULTS, Settings

WEIGHTS = (
    "min_snr_gamma",
    "debiased_estimation_loss",
    "scale_v_pred_loss_like_noise_pred",
    "v_pred_like_loss",
)
NOT_FALLING = ("constant", "constant_with_warmup", "inverse_sqrt", "piecewise_constant")
WORDS_AND_WEIGHT = re.compile(r"(.*\S)\s*=\s*(\d+\.?\d*|\.\d+)")


class Idle(NamedTuple):
    """Settings that do something only beside certain values of another one; `needed` is that in words."""

    names: tuple[str, ...]
    other: str
    values: tuple[object, ...]
    needed: str


# An empty row of values stands for any that is not off. Files of sd-scripts and its interfaces often have these.
IDLE = (
    Idle(("huber_schedule", "huber_c", "huber_scale"), "loss_type", ("huber", "smooth_l1"), "loss_type = huber"),
    Idle(("huber_scale",), "huber_schedule", ("constant", "exponential"), "another huber_schedule than snr"),
    Idle(("noise_offset_random_strength",), "noise_offset", (), "noise_offset"),
    Idle(("multires_noise_discount",), "multires_noise_iterations", (), "multires_noise_iterations"),
    Idle(("ip_noise_gamma_random_strength",), "ip_noise_gamma", (), "ip_noise_gamma"),
    Idle(("logit_mean", "logit_std"), "timestep_sampling", ("logit_normal",), "timestep_sampling = logit_normal"),
    Idle(("lr_scheduler_timescale",), "lr_scheduler", ("inverse_sqrt",), "lr_scheduler = inverse_sqrt"),
)


def loss_mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for each mistake in the loss, the noise and the timesteps."""
    if settings.soft_min_snr and not settings.min_snr_gamma:
        yield "soft_min_snr needs min_snr_gamma, 5 as a rule; set it, or leave soft_min_snr out."
    if settings.adaptive_noise_scale and not settings.noise_offset:
        yield "adaptive_noise_scale changes noise_offset, which is 0; set it, such as noise_offset = 0.05."
    if settings.timestep_sampling == "importance" and not any(getattr(settings, name) for name in WEIGHTS):
        yield (
            "timestep_sampling = importance draws timesteps by their weights, but all count alike; set min_snr_gamma, "
            "or leave it out."
        )
    if settings.huber_c > 1:
        yield f"huber_c must be at most 1, not {settings.huber_c}; huber_scale makes the threshold larger."
    lowest, below = settings.min_timestep or 0, settings.max_timestep or 1000
    if lowest >= below:
        yield f"min_timestep must be below max_timestep, but {lowest} is not below {below}."
    for word in settings.caption_loss_weights:
        if not WORDS_AND_WEIGHT.fullmatch(word):
            yield f"caption_loss_weights must be written words=weight, such as blurry=0.5, not '{word}'."


def schedule_mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for each mistake in the course of the learning rate."""
    if settings.max_train_epochs is None and settings.lr_warmup_steps > settings.max_train_steps:
        yield (
            f"lr_warmup_steps must not be longer than the run, max_train_steps = {settings.max_train_steps}, "
            f"but is {settings.lr_warmup_steps}; lower it."
        )
    told = any(each.startswith("step_rules=") for each in settings.lr_scheduler_args)
    if settings.lr_scheduler_type:
        yield from _foreign_mistakes(settings)
        return
    if settings.lr_scheduler == "warmup_stable_decay" and settings.lr_decay_steps is None:
        yield "lr_scheduler = warmup_stable_decay needs lr_decay_steps, such as 0.2 for the last fifth of the run."
    if settings.lr_scheduler == "cosine_with_min_lr" and settings.lr_scheduler_min_lr_ratio is None:
        yield "lr_scheduler = cosine_with_min_lr needs lr_scheduler_min_lr_ratio, such as 0.1."
    if settings.lr_scheduler == "piecewise_constant" and not told:
        yield (
            "lr_scheduler = piecewise_constant needs its rules, such as lr_scheduler_args = "
            '["step_rules=1:100,0.1:200,0.01"].'
        )
    strange = [
        each
        for each in settings.lr_scheduler_args
        if not (settings.lr_scheduler == "piecewise_constant" and each.startswith("step_rules="))
    ]
    if strange:
        yield f"lr_scheduler_args: {settings.lr_scheduler} takes no '{strange[0]}'; leave it out."


def idle_settings(settings: Settings) -> Iterator[str]:
    """A sentence for each setting that changes nothing beside the others."""
    for names, other, values, needed in IDLE:
        value = getattr(settings, other)
        works = value in values if values else bool(value)
        for name in names:
            if not works and getattr(settings, name) != DEFAULTS[name]:
                yield f"'{name}' changes nothing without {needed}."
    if settings.lr_scheduler in NOT_FALLING and not settings.lr_scheduler_type:
        for name in ("lr_decay_steps", "lr_scheduler_min_lr_ratio"):
            if getattr(settings, name) is not None:
                yield f"'{name}' changes nothing with lr_scheduler = {settings.lr_scheduler}, which does not fall."


def _foreign_mistakes(settings: Settings) -> Iterator[str]:
    """Settings that a schedule of another library does not look at."""
    for name in ("lr_warmup_steps", "lr_decay_steps", "lr_scheduler_min_lr_ratio"):
        if getattr(settings, name) != DEFAULTS[name]:
            yield (
                f"{name} belongs to the courses of lr_scheduler; {settings.lr_scheduler_type} is told by "
                "lr_scheduler_args alone, so leave it out."
            )
    if settings.ti_steps is not None:
        yield "lr_scheduler_type knows one course for all, not one for each part of ti_steps; set lr_scheduler."
