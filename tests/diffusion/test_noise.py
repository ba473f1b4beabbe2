"""Noise belongs to its sample; its numbers are normal; latents are drawn as diffusers draws them."""

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from library.diffusion.noise import draw_noise, sample_latents
from library.seeds import derive_seed

SHAPE = (4, 6, 8)


def seeds_of(count: int) -> list[int]:
    """Seeds as training derives them."""
    return [derive_seed(3, "noise", sample) for sample in range(count)]


def test_a_sample_draws_the_same_in_every_batch() -> None:
    seeds = seeds_of(4)
    together = draw_noise(seeds, SHAPE, offset=0.1)
    split = torch.cat([draw_noise(seeds[:1], SHAPE, offset=0.1), draw_noise(seeds[1:], SHAPE, offset=0.1)])
    assert together.shape == (4, *SHAPE)
    assert together.dtype == torch.float32
    assert torch.equal(together, split)


def test_drawing_leaves_the_process_stream_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    draw_noise(seeds_of(2), SHAPE, offset=0.1)
    assert torch.equal(before, torch.get_rng_state())


def test_the_noise_is_standard_normal() -> None:
    noise = draw_noise(seeds_of(64), SHAPE)
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03


def test_the_offset_moves_whole_channels_by_its_strength() -> None:
    seeds = seeds_of(256)
    plain, shifted = draw_noise(seeds, SHAPE), draw_noise(seeds, SHAPE, offset=0.25)
    shift = shifted - plain
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert abs(shift[:, :, 0, 0].std() - 0.25) < 0.02


def test_latents_are_mean_plus_deviation_times_the_samples_noise() -> None:
    seeds = seeds_of(3)
    mean = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    logvar = torch.linspace(-40, 25, mean.numel()).reshape(mean.shape)
    reference = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1))
    expected = reference.mean + reference.std * draw_noise(seeds, SHAPE)
    torch.testing.assert_close(sample_latents(mean, logvar, seeds), expected)


def test_half_precision_moments_give_float32_latents() -> None:
    mean = torch.zeros(1, *SHAPE, dtype=torch.float16)
    assert sample_latents(mean, mean, seeds_of(1)).dtype == torch.float32
