"""Drawing pictures: a family's models, guided by prompts, and a sampler."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn

from library.files import write_atomically
from library.log import warn
from library.models.family import Condition, Family
from library.models.guidance import Guidance, Predictor, autocast, joined_condition, read_guidance
from library.models.prompts import PIXEL_STEP, Prompt
from library.models.sampling import ONE_BY_ONE, Beginning, Noise, known_sampler, sample
from library.samplers import split_name


@dataclass(frozen=True)
class Start:
    """A picture that others are made from, and how far from it: the share of the steps that is done, above 0 to 1."""

    picture: Image.Image
    strength: float


@dataclass(frozen=True, eq=False)
class Painter:
    """A family's models, ready to draw. They are left in the mode, on the device and with the weights that they had,
    but for a VAE that overflows in half precision: that goes on in float32.
    """

    family: Family
    vae: Any
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
        """The picture of a prompt whose words are all meant as they stand, RGB, of the prompt's width and height.

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
        place = torch.device(device) if device is not None else _device_of(self.unet)
        prompt = replace(prompt, sampler=known_sampler(self.family, sampler or prompt.sampler))
        if condition is None:
            with borrowed(self.text_encoders, place), autocast(place, dtype):
                tokens = [each.to(place) for each in self.family.tokenize(texts_of(prompt), max_token_length)]
                condition = self.family.encode_text(self.text_encoders, tokens, clip_skip)
        guidance = Guidance(condition, (prompt.guidance,) if prompt.guidance > 1 else ())
        return self.draw_batch([prompt], [guidance], place, dtype)[0]

    @torch.no_grad()
    def read(
        self,
        prompts: Sequence[Prompt],
        clip_skip: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        max_token_length: int | None = None,
    ) -> list[Guidance]:
        """What prompts in the web UI's grammar say to the UNet: weights, BREAK, AND and words that change on the way,
        without tags of LoRAs.

        `max_token_length` cuts them; None reads them whole.
        """
        place = torch.device(device) if device is not None else _device_of(self.unet)
        with borrowed(self.text_encoders, place), autocast(place, dtype):
            return [
                read_guidance(self.family, self.text_encoders, prompt, clip_skip, max_token_length)
                for prompt in prompts
            ]

    @torch.no_grad()
    def draw_batch(
        self,
        prompts: Sequence[Prompt],
        guidances: Sequence[Guidance],
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        start: Start | None = None,
    ) -> list[Image.Image]:
        """Pictures of prompts with one size, sampler, number of steps and of tokens, in one forward pass a step.

        Each has the noise of its own seed alone, so that it is the picture that is drawn without the others, but for
        rounding. `guidances` say what the prompts' words say.
        """
        first = prompts[0]
        if split_name(first.sampler)[0] in ONE_BY_ONE and len(prompts) > 1:
            pairs = zip(prompts, guidances, strict=True)
            return [self.draw_batch([prompt], [each], device, dtype, start)[0] for prompt, each in pairs]
        place = torch.device(device) if device is not None else _device_of(self.unet)
        shape = (self.vae.config.latent_channels, first.height // PIXEL_STEP, first.width // PIXEL_STEP)
        noise = Noise.of_seeds([prompt.seed for prompt in prompts], shape, place)
        condition = joined_condition([guidance.condition for guidance in guidances], place)
        predict = Predictor(self.family, self.unet, guidances, condition, dtype)
        beginning = self._encode(start, first, place) if start else None
        with borrowed([self.unet], place):
            latents = sample(self.family, first.sampler, first.steps, predict, noise, beginning, predict.at)
        for prompt, each in zip(prompts, latents, strict=True):
            if not torch.isfinite(each).all():
                warn(f"the picture of seed {prompt.seed} overflowed; use bf16 or no mixed precision.")
        with borrowed([self.vae], place):
            return [to_picture(self._decode(each)[0]) for each in latents.split(1)]

    def _encode(self, start: Start, prompt: Prompt, device: torch.device) -> Beginning:
        """The latents of a picture, brought to the prompt's size and cut where its shape is another."""
        picture = ImageOps.fit(start.picture.convert("RGB"), (prompt.width, prompt.height), Image.Resampling.LANCZOS)
        pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with borrowed([self.vae], device):
            mean, _ = self.family.encode_images(self.vae, pixels.to(device))
        return Beginning(mean * self.family.latent_scale, start.strength)

    def _decode(self, latents: Tensor) -> Tensor:
        """Pixels (1, 3, height, width) in [-1, 1]; a VAE that overflows in half precision becomes one in float32."""
        pixels = self.family.decode_latents(self.vae, latents)
        is_half = next(self.vae.parameters()).dtype != torch.float32
        if is_half and torch.isfinite(latents).all() and not torch.isfinite(pixels).all():
            warn("the VAE overflows in half precision; pictures are decoded in float32.")
            self.vae.float()
            pixels = self.family.decode_latents(self.vae, latents)
        return pixels


def texts_of(prompt: Prompt) -> list[str]:
    """What the text encoders read for a prompt: the negative words, if they are used at all, and the words."""
    # Without guidance the unconditional half of the batch would be computed for nothing.
    return [prompt.negative, prompt.text] if prompt.guidance > 1 else [prompt.text]


def to_picture(pixels: Tensor) -> Image.Image:
    """A picture (3, height, width) in [-1, 1] as Pillow's RGB; values beyond the range are cut."""
    shades = (pixels.float() / 2 + 0.5).nan_to_num().clamp(0, 1) * 255
    return Image.fromarray(shades.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy())


def save_png(path: Path, picture: Image.Image, text: str = "") -> None:
    """Writes a picture, whole or not at all; `text` says how it was made, where the web UIs look for it."""
    information = PngInfo()
    if text:
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
