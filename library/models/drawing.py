"""Drawing a picture: classifier-free guidance through a family's models, by a sampler of the table."""

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from library import lookup
from library.diffusion.schedule import Schedule, scaled_linear
from library.errors import InputError
from library.files import write_atomically
from library.log import warn
from library.models.family import Condition, Family
from library.models.prompts import PIXEL_STEP, Prompt

# The samplers that understand a model that predicts the clean latents themselves.
FOR_SAMPLE_PREDICTION = ("ddim", "euler", "dpmsolver++", "unipc")

LAST_TRACE = 2.0**-24  # of the signal's variance, diffusers' own figure for schedules that end in pure noise

# What diffusers writes for Stable Diffusion; each scheduler takes the part that it knows.
SCHEDULER_SETTINGS = {
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


@dataclass(frozen=True, eq=False)
class Painter:
    """A family's models, ready to draw. `draw` leaves their mode, device and weights as it found them, but for a VAE
    that overflows in half precision: that goes on in float32.
    """

    family: Family
    vae: nn.Module
    text_encoders: Sequence[nn.Module]
    unet: nn.Module

    @torch.no_grad()
    def draw(
        self,
        prompt: Prompt,
        sampler: str | None = None,
        clip_skip: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        max_token_length: int = 75,
        condition: Condition | None = None,
    ) -> Image.Image:
        """The picture of a prompt, RGB, of the prompt's width and height.

        All noise comes from one CPU generator with the prompt's seed, in the order of diffusers' pipelines,
        so that neither the device nor earlier pictures change it. Torch's random state is left alone.

        Args:
            sampler: a name in lookup.SAMPLERS; the prompt's own unless given.
            clip_skip: which of the text encoder's last layers is read, counted from 1; None: the last.
            device: where to compute; the UNet's device unless given.
            dtype: what the UNet and the text encoders compute in; the VAE computes in its weights' own type.
            max_token_length: of a prompt, in tokens.
            condition: what `texts_of` the prompt say to the UNet, where that is known; else they are read here.

        Raises:
            InputError: the sampler is unknown, or cannot be used with what the model predicts.
        """
        device = torch.device(device) if device is not None else _device_of(self.unet)
        scheduler = make_scheduler(self.family, sampler or prompt.sampler, prompt.steps)
        if condition is None:
            with borrowed(self.text_encoders, device), _autocast(device, dtype):
                tokens = [each.to(device) for each in self.family.tokenize(texts_of(prompt), max_token_length)]
                condition = self.family.encode_text(self.text_encoders, tokens, clip_skip)
        with borrowed([self.unet], device):
            latents = self._denoise(prompt, scheduler, condition, dtype)
        if not torch.isfinite(latents).all():
            warn(f"the picture of seed {prompt.seed} overflowed; use bf16 or no mixed precision.")
        with borrowed([self.vae], device):
            pixels = self._decode(latents)
        return to_picture(pixels[0])

    def _decode(self, latents: Tensor) -> Tensor:
        """Pixels (1, 3, height, width) in [-1, 1]; a VAE that overflows in half precision becomes one in float32."""
        pixels = self.family.decode_latents(self.vae, latents)
        is_half = next(self.vae.parameters()).dtype != torch.float32
        if is_half and torch.isfinite(latents).all() and not torch.isfinite(pixels).all():
            warn("the VAE overflows in half precision; pictures are decoded in float32.")
            self.vae.float()
            pixels = self.family.decode_latents(self.vae, latents)
        return pixels

    def _denoise(self, prompt: Prompt, scheduler: Any, condition: Condition, dtype: torch.dtype) -> Tensor:
        """From noise to latents, (1, channels, height / 8, width / 8); everything but the UNet is float32."""
        device = condition.hidden.device
        pieces = condition.hidden.shape[0]
        generator = torch.Generator().manual_seed(prompt.seed)
        channels = self.vae.config.latent_channels
        shape = (1, channels, prompt.height // PIXEL_STEP, prompt.width // PIXEL_STEP)
        scheduler.set_timesteps(prompt.steps, device=device)
        latents = torch.randn(shape, generator=generator).to(device) * scheduler.init_noise_sigma
        takes_noise = "generator" in inspect.signature(scheduler.step).parameters
        noise = {"generator": generator} if takes_noise else {}
        for timestep in scheduler.timesteps:
            noisy = scheduler.scale_model_input(latents, timestep).expand(pieces, -1, -1, -1)
            with _autocast(device, dtype):
                prediction = self.family.predict(self.unet, noisy, timestep.expand(pieces), condition)
            prediction = prediction.float()
            if pieces == 2:
                negative, positive = prediction.chunk(2)
                prediction = negative + prompt.guidance * (positive - negative)
            latents = scheduler.step(prediction, timestep, latents, **noise, return_dict=False)[0]
        return latents


def texts_of(prompt: Prompt) -> list[str]:
    """What the text encoders read for a prompt: the negative words, if they are used at all, and the words."""
    # Without guidance the unconditional half of the batch would be computed for nothing.
    return [prompt.negative, prompt.text] if prompt.guidance > 1 else [prompt.text]


def make_scheduler(family: Family, sampler: str, steps: int) -> Any:
    """The diffusers scheduler behind a name of lookup.SAMPLERS, with the family's betas and prediction type.

    Timesteps are spaced as is each method's habit: DDIM and PNDM as in diffusers, others as in k-diffusion
    and the web UIs. Where that fails for a number of steps, they are spaced from the last timestep on down.
    Raises InputError for an unknown sampler, and for one that cannot be used with the prediction type.
    """
    name = lookup.find_name(sampler, lookup.SAMPLERS)
    if name is None:
        raise InputError(f"Unknown sampler {sampler!r}; allowed: {', '.join(lookup.SAMPLERS)}.")
    if family.prediction_type == "sample" and name not in FOR_SAMPLE_PREDICTION:
        allowed = ", ".join(FOR_SAMPLE_PREDICTION)
        raise InputError(f"Sampler {name!r} does not fit a model that predicts samples; use {allowed}.")
    start, end, count = family.betas
    settings = SCHEDULER_SETTINGS | {
        "beta_start": start,
        "beta_end": end,
        "num_train_timesteps": count,
        "prediction_type": family.prediction_type,
        "rescale_betas_zero_snr": family.zero_terminal_snr,
    }
    build = lookup.resolve(lookup.SAMPLERS[name])
    known = inspect.signature(build).parameters
    if family.zero_terminal_snr and "rescale_betas_zero_snr" not in known:
        settings["trained_betas"] = _betas_to_noise(scaled_linear(start, end, count).to_zero_snr())
    habit = known["timestep_spacing"].default
    is_usual = _reaches_noise(habit, steps, count) and not family.zero_terminal_snr
    settings["timestep_spacing"] = habit if is_usual else "trailing"
    return build(**{key: value for key, value in settings.items() if key in known})


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


def to_picture(pixels: Tensor) -> Image.Image:
    """A picture (3, height, width) in [-1, 1] as Pillow's RGB; values beyond the range are cut."""
    shades = (pixels.float() / 2 + 0.5).nan_to_num().clamp(0, 1) * 255
    return Image.fromarray(shades.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def save_png(path: Path, picture: Image.Image, text: str) -> None:
    """Writes a picture, whole or not at all; `text` says how it was made, where the web UIs look for it."""
    information = PngInfo()
    information.add_text("parameters", text)
    write_atomically(path, lambda file: picture.save(file, "png", pnginfo=information))


@contextmanager
def borrowed(modules: Iterable[nn.Module], device: torch.device) -> Iterator[None]:
    """The modules on `device` and in evaluation mode; afterwards each is where and as it was."""
    modules = list(modules)
    homes = [_device_of(module) for module in modules]
    modes = {part: part.training for module in modules for part in module.modules()}
    try:
        for module, home in zip(modules, homes, strict=True):
            module.eval()
            if not _same_device(home, device):
                module.to(device)
        yield
    finally:
        for part, training in modes.items():
            part.training = training
        for module, home in zip(modules, homes, strict=True):
            if not _same_device(home, device):
                module.to(home)


def _device_of(module: nn.Module) -> torch.device:
    """Where a module's weights are."""
    return next(module.parameters()).device


def _same_device(one: torch.device, other: torch.device) -> bool:
    """Whether two names mean one device: "cuda" is whichever GPU is at work."""
    return one.type == other.type and (one.index == other.index or None in (one.index, other.index))


def _autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for a forward pass; nothing where all is float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
