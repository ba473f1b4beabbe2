"""What a run asks of its model, from the settings and the family."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from library.device import Compute
from library.diffusion.loss import Measure, Weighting
from library.diffusion.noise import Noise
from library.diffusion.schedule import scaled_linear
from library.diffusion.timesteps import draw_timesteps, logit_normal_timesteps, weighed_timesteps
from library.errors import InputError
from library.models.family import Family
from library.settings import Settings
from library.train.step import Objective


def make_objective(settings: Settings, family: Family, compute: Compute) -> Objective:
    """The family's schedule and prediction, the settings' noise, timesteps, loss and weights.

    Raises InputError where the loss is one for models that predict something else.
    """
    check_prediction(settings, family)
    schedule = scaled_linear(*family.betas)
    if family.zero_terminal_snr:
        schedule = schedule.to_zero_snr()
    weighting, even_weight = weighting_of(settings), None
    low, high = settings.min_timestep or 0, settings.max_timestep or schedule.steps
    if settings.timestep_sampling == "importance":
        chances = weighting.of(schedule.snr(torch.arange(low, high)), family.prediction_type)
        even_weight = float(chances.double().mean())
        draw: Callable[[Sequence[int]], Tensor] = partial(weighed_timesteps, low=low, chances=chances)
    else:
        draw = _draw_of(settings, low, high)
    return Objective(
        schedule=schedule.to(compute.device),
        prediction_type=family.prediction_type,
        noise=noise_of(settings),
        measure=Measure(settings.loss_type, settings.huber_schedule, settings.huber_c, settings.huber_scale),
        weighting=weighting,
        draw=draw,
        even_weight=even_weight,
    )


def plain_objective(objective: Objective) -> Objective:
    """The same question, judged by the mean squared error alone, so that runs can be compared."""
    schedule, prediction_type = objective.schedule, objective.prediction_type
    noise = Noise(offset=objective.noise.offset)
    return Objective(schedule, prediction_type, noise)


def check_prediction(settings: Settings, family: Family) -> None:
    """InputError where a loss is asked for that is for models that predict something else."""
    wanted = {
        "scale_v_pred_loss_like_noise_pred": ("v_prediction", "v"),
        "v_pred_like_loss": ("epsilon", "noise"),
    }
    for name, (prediction_type, word) in wanted.items():
        if getattr(settings, name) and family.prediction_type != prediction_type:
            raise InputError(
                f"{name} is for models that predict {word}, and {family.base_name} predicts "
                f"{family.prediction_type}; leave it out."
            )


def weighting_of(settings: Settings) -> Weighting:
    """How timesteps are weighed."""
    return Weighting(
        min_snr_gamma=settings.min_snr_gamma,
        soft=settings.soft_min_snr,
        debiased=settings.debiased_estimation_loss,
        scale_v_like_noise=settings.scale_v_pred_loss_like_noise_pred,
        v_like=settings.v_pred_like_loss or 0.0,
    )


def noise_of(settings: Settings) -> Noise:
    """What is added to the latents."""
    return Noise(
        offset=settings.noise_offset,
        offset_varies=settings.noise_offset_random_strength,
        adaptive=settings.adaptive_noise_scale or 0.0,
        levels=settings.multires_noise_iterations or 0,
        discount=settings.multires_noise_discount,
        perturbation=settings.ip_noise_gamma or 0.0,
        perturbation_varies=settings.ip_noise_gamma_random_strength,
    )


def _draw_of(settings: Settings, low: int, high: int) -> Callable[[Sequence[int]], Tensor]:
    """Timesteps without regard to their weights."""
    if settings.timestep_sampling == "uniform":
        return partial(draw_timesteps, low=low, high=high)
    mean, deviation = settings.logit_mean, settings.logit_std
    return partial(logit_normal_timesteps, low=low, high=high, mean=mean, deviation=deviation)
