"""From noise to latents, by a sampler of diffusers or of our own."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from library import lookup
from library.diffusion.schedule import Schedule, scaled_linear
from library.diffusion.sigmas import Denoiser, Sigmas
from library.errors import InputError
from library.models.family import Family
from library.models.guidance import Predict
from library.samplers import NAMES, OPTIONS, find_sampler, split_name

# The methods that understand a model that predicts the clean latents themselves.
FOR_SAMPLE_PREDICTION = (
    *("ddim", "ddpm", "euler", "dpmsolver++", "dpm++_2m_sde", "dpm++_sde", "dpm++_2s_a", "dpm_fast", "dpm_adaptive"),
    "unipc",
)
ONE_BY_ONE = ("dpm_adaptive",)  # those whose steps depend on the pictures
ROUNDING = 1e-3  # of a timestep, which no two steps are as near as
LAST_TRACE = 2.0**-24  # of the signal's variance, diffusers' own figure for schedules that end in pure noise

# What diffusers writes for Stable Diffusion; each scheduler takes the part that it knows.
SCHEDULER_SETTINGS: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


Tell = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Noise:
    """The noise of a batch: each picture's comes from its own seed, on the CPU, whatever else is in the batch.

    `shape` is that of one picture's latents, (channels, height, width).
    """

    generators: Sequence[torch.Generator]
    shape: tuple[int, int, int]
    device: torch.device

    @classmethod
    def of_seeds(cls, seeds: Sequence[int], shape: tuple[int, int, int], device: torch.device) -> "Noise":
        """The noise of pictures with these seeds, from its beginning."""
        return cls([torch.Generator().manual_seed(seed) for seed in seeds], shape, device)

    def draw(self) -> Tensor:
        """The next noise, (batch, channels, height, width)."""
        return torch.cat([torch.randn((1, *self.shape), generator=each) for each in self.generators]).to(self.device)


@dataclass(frozen=True, eq=False)
class Beginning:
    """Latents (batch, channels, h, w) to begin with instead of noise, and the share of the steps that changes them."""

    latents: Tensor
    strength: float

    def skipped(self, steps: int) -> int:
        """How many of the steps are left out, as in diffusers and the web UIs; one step at least is done."""
        return steps - max(1, min(steps, int(steps * self.strength)))


def sample(
    family: Family,
    sampler: str,
    steps: int,
    predict: Predict,
    noise: Noise,
    beginning: Beginning | None = None,
    tell: Tell = lambda step: None,
) -> Tensor:
    """Clean latents (batch, channels, h, w) that `predict` leads to; all but the prediction is float32.

    `tell` is told before each prediction to which step it belongs, counted from 0 for the first that is done.

    Raises InputError for an unknown sampler, and for one that cannot be used with what the model predicts.
    """
    name = known_sampler(family, sampler)
    if lookup.SAMPLERS[split_name(name)[0]].startswith("diffusers:"):
        return _by_scheduler(make_scheduler(family, name, steps), steps, predict, noise, beginning, tell)
    return _by_solver(family, name, steps, predict, noise, beginning, tell)


def known_sampler(family: Family, sampler: str) -> str:
    """The sampler's name in the table; InputError if it has none, or does not fit what the model predicts."""
    name = find_sampler(sampler)
    if name is None:
        raise InputError(f"Unknown sampler {sampler!r}; allowed: {', '.join(NAMES)}.")
    if family.prediction_type == "sample" and split_name(name)[0] not in FOR_SAMPLE_PREDICTION:
        allowed = ", ".join(FOR_SAMPLE_PREDICTION)
        raise InputError(f"Sampler {name!r} does not fit a model that predicts samples; use {allowed}.")
    return name


def make_scheduler(family: Family, sampler: str, steps: int) -> Any:
    """The diffusers scheduler behind a sampler's name, with the family's betas and prediction type.

    Timesteps are spaced as is each method's habit: DDIM, DDPM and PNDM as in diffusers, others as in k-diffusion
    and the web UIs. Where that fails for a number of steps, they are spaced from the last timestep on down.
    Raises InputError for an unknown sampler, and for one that cannot be used with the prediction type.
    """
    method, is_karras = split_name(known_sampler(family, sampler))
    start, end, count = family.betas
    settings = SCHEDULER_SETTINGS | {
        "beta_start": start,
        "beta_end": end,
        "num_train_timesteps": count,
        "prediction_type": family.prediction_type,
        "rescale_betas_zero_snr": family.zero_terminal_snr,
        "use_karras_sigmas": is_karras,
        **OPTIONS.get(method, {}),
    }
    build = lookup.resolve(lookup.SAMPLERS[method])
    known = inspect.signature(build).parameters
    if family.zero_terminal_snr and "rescale_betas_zero_snr" not in known:
        settings["trained_betas"] = _betas_to_noise(scaled_linear(start, end, count).to_zero_snr())
    habit = known["timestep_spacing"].default
    is_usual = _reaches_noise(habit, steps, count) and not family.zero_terminal_snr
    settings["timestep_spacing"] = habit if is_usual else "trailing"
    return build(**{key: value for key, value in settings.items() if key in known})


def _by_scheduler(
    scheduler: Any, steps: int, predict: Predict, noise: Noise, beginning: Beginning | None, tell: Tell
) -> Tensor:
    scheduler.set_timesteps(steps, device=noise.device)
    latents, times = noise.draw(), scheduler.timesteps
    if beginning is None:
        latents = latents * scheduler.init_noise_sigma
    else:
        times = _times_behind(scheduler, beginning.skipped(steps))
        latents = scheduler.add_noise(beginning.latents, latents, times[:1])
    takes_noise = "generator" in inspect.signature(scheduler.step).parameters
    random = {"generator": list(noise.generators)} if takes_noise else {}
    for number, timestep in enumerate(times):
        # Of pndm the first step is taken twice.
        tell(max(number - 1, 0) if hasattr(scheduler, "plms_timesteps") else number // scheduler.order)
        prediction = predict(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(prediction, timestep, latents, **random, return_dict=False)[0]
    return latents


def _times_behind(scheduler: Any, count: int) -> Tensor:
    """The timesteps that are left when the first `count` steps are not done; the scheduler begins behind those."""
    times: Tensor = scheduler.timesteps
    if hasattr(scheduler, "plms_timesteps"):
        # The second of its timesteps stands twice: its first step is taken again with what it led to.
        plain = torch.cat((times[:1], times[2:]))[count:]
        return torch.cat((plain[:2], plain[1:]))
    if hasattr(scheduler, "get_lms_coefficient"):
        # The number of a step is taken for that of the answers that it remembers.
        scheduler.sigmas, scheduler.timesteps = scheduler.sigmas[count:], times[count:]
        return scheduler.timesteps
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(count * scheduler.order)
    return times[count * scheduler.order :]


def _by_solver(
    family: Family,
    sampler: str,
    steps: int,
    predict: Predict,
    noise: Noise,
    beginning: Beginning | None,
    tell: Tell,
) -> Tensor:
    method, is_karras = split_name(sampler)
    schedule = scaled_linear(*family.betas)
    table = Sigmas(schedule.to_zero_snr() if family.zero_terminal_snr else schedule)
    sigmas = table.karras(steps) if is_karras else table.even(steps)
    if beginning is not None:
        sigmas = sigmas[beginning.skipped(steps) :]
    latents = sigmas[0] * noise.draw()
    if beginning is not None:
        latents = latents + beginning.latents
    solve = lookup.resolve(lookup.SAMPLERS[method])
    starts = [table.timestep(sigma) - ROUNDING for sigma in sigmas[:-1]]

    def told(noisy: Tensor, timestep: Tensor) -> Tensor:
        tell(max(sum(start >= float(timestep) - 2 * ROUNDING for start in starts) - 1, 0))
        return predict(noisy, timestep)

    solved: Tensor = solve(Denoiser(told, table, family.prediction_type), latents, sigmas, noise.draw)
    return solved


def _betas_to_noise(schedule: Schedule) -> list[float]:
    """The betas of a schedule that ends in pure noise, for samplers that cannot change their own.

    The last timestep keeps the trace of a picture that diffusers leaves it too, as most divide by its square root.
    """
    left = schedule.alphas_cumprod.double().clamp(min=LAST_TRACE)
    return [float(beta) for beta in 1 - left / torch.cat((torch.ones(1, dtype=left.dtype), left[:-1]))]


def _reaches_noise(spacing: str, steps: int, count: int) -> bool:
    """Whether the first timestep of a spacing is one that the model knows, and almost pure noise.

    "leading" multiplies a rounded-down step, so that some numbers of steps (1, 350, 600 ...) begin in the
    middle of the schedule, where a picture is expected and noise is given; 1000 begin behind its end.
    """
    if spacing == "leading":
        first = (steps - 1) * (count // steps) + SCHEDULER_SETTINGS["steps_offset"]
        return 0.75 * count <= first < count
    return 1 < steps < count
