"""Random tensors that belong to a sample: the same on every device, in every batch, after every resume."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from library.seeds import derive_seed

SEED_BITS = 63


@dataclass(frozen=True)
class Noise:
    """What is added to latents, by each sample's seed.

    `offset` is that of `offset_strengths`, below its strength at random with `offset_varies`, and `adaptive` its part
    that follows the latents. `levels` and `discount` are those of `draw_levels`. `perturbation` is how much more noise
    the model's input has than it is told of, at random up to that with `perturbation_varies`.
    """

    offset: float = 0.0
    offset_varies: bool = False
    adaptive: float = 0.0
    levels: int = 0
    discount: float = 0.3
    perturbation: float = 0.0
    perturbation_varies: bool = False

    def draw(self, seeds: Sequence[int], latents: Tensor) -> Tensor:
        """The noise of each sample, shaped as `latents` (batch, channels, height, width), float32 on their device."""
        shape, device = latents.shape[1:], latents.device
        noise = draw_noise(seeds, shape).to(device, non_blocking=True)
        if self.offset:
            shares = draw_shares(_of(seeds, "offset strength")) if self.offset_varies else None
            strengths = offset_strengths(latents, self.offset, self.adaptive, shares)
            shades = draw_noise(_of(seeds, "offset"), (shape[0], 1, 1))
            noise = noise + strengths * shades.to(device, non_blocking=True)
        if self.levels:
            noise = noise + draw_levels(_of(seeds, "levels"), shape, self.levels, self.discount).to(device)
            noise = noise / noise.flatten(1).std(1).reshape(-1, 1, 1, 1)
        return noise

    def disturb(self, seeds: Sequence[int], noise: Tensor) -> Tensor:
        """The noise that the model's input gets, where its answer is about `noise`: noise + gamma * more noise.

        Input perturbation (Ning et al. 2023, arXiv 2301.11706, equation 8): what the model is told to take away at a
        timestep is not quite what is there, as when it draws a picture and its own errors are.
        """
        if not self.perturbation:
            return noise
        strengths: Tensor | float = self.perturbation
        if self.perturbation_varies:
            shares = draw_shares(_of(seeds, "perturbation strength")).reshape(-1, 1, 1, 1)
            strengths = self.perturbation * shares.to(noise.device)
        more = draw_noise(_of(seeds, "perturbation"), noise.shape[1:])
        return noise + strengths * more.to(noise.device, non_blocking=True)


def draw_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise, one sample per 63-bit seed, (batch, *shape) float32 on the CPU."""
    return torch.stack([torch.randn(tuple(shape), generator=_generator(seed)) for seed in seeds])


def draw_shares(seeds: Sequence[int]) -> Tensor:
    """A number in [0, 1) for each sample, (batch,) float32 on the CPU: its uniform 63-bit seed scaled down."""
    return torch.tensor([seed / 2**SEED_BITS for seed in seeds])


def offset_strengths(latents: Tensor, offset: float, adaptive: float = 0.0, shares: Tensor | None = None) -> Tensor:
    """How much of a further normal number each channel's noise gets, (batch, channels or 1, 1, 1), at least 0.

    The number is constant over a channel, so that the model learns to change a picture's overall brightness
    (N. Guttenberg, "Diffusion with Offset Noise", 2023).

    Args:
        latents: (batch, channels, height, width)
        offset: the strength
        adaptive: how much stronger it is, or weaker if below 0, for each unit of the latent channel's mean
        shares: (batch,) in [0, 1), what part of the offset a sample has; all of it unless given
    """
    whole = torch.ones(len(latents)) if shares is None else shares
    strengths = (offset * whole).reshape(-1, 1, 1, 1).to(latents.device)
    if not adaptive:
        return strengths
    return (strengths + adaptive * latents.float().mean((2, 3), keepdim=True).abs()).clamp(min=0)


def draw_levels(seeds: Sequence[int], shape: Sequence[int], levels: int, discount: float) -> Tensor:
    """Noise of several resolutions, one on the other, (batch, *shape) float32 on the CPU.

    Multi-resolution noise (J. Whitaker, "Multi-Resolution Noise for Diffusion Model Training", 2023): level i is white
    noise of sides divided by r ** i, r anew from 2 .. 4 for each, enlarged and multiplied by discount ** i. It ends
    where a side is 1. What it is added to is to be brought back to a standard deviation of 1.

    Args:
        shape: (channels, height, width) of one sample
        levels: how many there are at most, the first of which has full resolution
    """
    return torch.stack([_levels_of_one(seed, tuple(shape), levels, discount) for seed in seeds])


def sample_latents(mean: Tensor, logvar: Tensor, seeds: Sequence[int]) -> Tensor:
    """A sample of the VAE's diagonal Gaussian, mean + exp(logvar / 2) * noise (arXiv 1312.6114, equation 10).

    Args:
        mean, logvar: (batch, channels, height, width), as the VAE's encoder gives them
        seeds: one 63-bit seed per sample

    Returns:
        (batch, channels, height, width) float32 on the device of `mean`, not yet scaled for the UNet
    """
    noise = draw_noise(seeds, mean.shape[1:]).to(mean.device, non_blocking=True)
    # The bounds of the VAE's own training, which keep exp() finite.
    deviation = (logvar.float().clamp(-30.0, 20.0) / 2).exp()
    return mean.float() + deviation * noise


def _levels_of_one(seed: int, shape: tuple[int, ...], levels: int, discount: float) -> Tensor:
    generator = _generator(seed)
    channels, height, width = shape
    noise = torch.zeros(shape)
    for level in range(levels):
        ratio = (2 + 2 * float(torch.rand((), generator=generator))) ** level
        small = max(1, int(height / ratio)), max(1, int(width / ratio))
        drawn = torch.randn((1, channels, *small), generator=generator)
        noise += discount**level * interpolate(drawn, (height, width), mode="bilinear")[0]
        if 1 in small:
            break
    return noise


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _of(seeds: Sequence[int], purpose: str) -> list[int]:
    """Seeds of draws besides the noise itself."""
    return [derive_seed(seed, purpose) for seed in seeds]
