"""Random tensors that belong to a sample: the same on every device, in every batch, after every resume."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_noise(seeds: Sequence[int], shape: Sequence[int], offset: float = 0.0) -> Tensor:
    """Standard normal noise, one sample per seed, (batch, *shape) float32 on the CPU.

    Args:
        seeds: one 63-bit seed per sample
        shape: (channels, height, width) of one sample
        offset: strength of a further normal number that is constant over each channel, so that the
            model learns to change a picture's overall brightness (N. Guttenberg, "Diffusion with Offset
            Noise", 2023)
    """
    return torch.stack([_noise_of_one(seed, tuple(shape), offset) for seed in seeds])


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


def _noise_of_one(seed: int, shape: tuple[int, ...], offset: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    if offset:
        channels = (shape[0],) + (1,) * (len(shape) - 1)
        noise += offset * torch.randn(channels, generator=generator)
    return noise
