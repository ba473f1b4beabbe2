"""Noise belongs to its sample; its numbers are what the formulas say; latents are drawn as diffusers draws them."""

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from library.diffusion.noise import Noise, draw_levels, draw_noise, draw_shares, offset_strengths, sample_latents
from library.seeds import derive_seed

SHAPE = (4, 6, 8)
EVERYTHING = Noise(0.1, True, 0.2, 3, 0.5, 0.1, True)


def seeds_of(count: int) -> list[int]:
    """Seeds as training derives them."""
    return [derive_seed(3, "noise", sample) for sample in range(count)]


def latents_of(count: int, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    """Latents with a mean of their own in each channel."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *shape, generator=generator) + torch.randn(count, shape[0], 1, 1, generator=generator)


@pytest.mark.parametrize("noise", [Noise(), Noise(offset=0.1), EVERYTHING])
def test_a_sample_draws_the_same_in_every_batch(noise: Noise) -> None:
    seeds, latents = seeds_of(4), latents_of(4)
    together = noise.draw(seeds, latents)
    split = torch.cat([noise.draw([seed], latents[n : n + 1]) for n, seed in enumerate(seeds)])
    assert together.shape == (4, *SHAPE) and together.dtype == torch.float32
    assert torch.equal(together, split)
    alone = [noise.disturb([seed], together[n : n + 1]) for n, seed in enumerate(seeds)]
    assert torch.equal(noise.disturb(seeds, together), torch.cat(alone))


def test_drawing_leaves_the_process_stream_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    EVERYTHING.disturb(seeds_of(2), EVERYTHING.draw(seeds_of(2), latents_of(2)))
    assert torch.equal(before, torch.get_rng_state())


def test_the_noise_is_standard_normal() -> None:
    noise = draw_noise(seeds_of(64), SHAPE)
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert torch.equal(Noise().draw(seeds_of(64), torch.zeros(64, *SHAPE)), noise)


def test_shares_are_uniform() -> None:
    shares = draw_shares(seeds_of(4000))
    assert 0 <= shares.min() < 0.01 and 0.99 < shares.max() < 1
    assert abs(shares.mean() - 0.5) < 0.02 and abs(shares.std() - 12**-0.5) < 0.01


def test_the_offset_moves_whole_channels_by_its_strength() -> None:
    seeds, latents = seeds_of(256), torch.zeros(256, *SHAPE)
    shift = Noise(offset=0.25).draw(seeds, latents) - Noise().draw(seeds, latents)
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6)
    assert abs(shift[:, :, 0, 0].std() - 0.25) < 0.02
    varied = Noise(offset=0.25, offset_varies=True).draw(seeds, latents) - Noise().draw(seeds, latents)
    ratios = (varied / shift)[:, :, 0, 0]  # one strength for each sample, from 0 up to the whole
    torch.testing.assert_close(ratios, ratios[:, :1].expand_as(ratios), rtol=1e-3, atol=1e-3)
    assert ratios.min() < 0.05 and 0.95 < ratios.max() <= 1.001 and abs(ratios.mean() - 0.5) < 0.06


@pytest.mark.parametrize("adaptive", [0.5, -0.5])
def test_the_adaptive_offset_follows_the_latents(adaptive: float) -> None:
    """As in sd-scripts: offset + scale * |mean of the channel|, never below 0."""
    latents = latents_of(3)
    expected = np.maximum(0.1 + adaptive * np.abs(latents.numpy().mean(axis=(2, 3), keepdims=True)), 0)
    np.testing.assert_allclose(offset_strengths(latents, 0.1, adaptive).numpy(), expected, rtol=1e-5, atol=1e-6)
    assert offset_strengths(latents, 0.1).flatten().tolist() == pytest.approx([0.1] * 3)
    seeds = seeds_of(3)
    shift = Noise(offset=0.1, adaptive=adaptive).draw(seeds, latents) - Noise().draw(seeds, latents)
    whole = Noise(offset=0.1).draw(seeds, latents) - Noise().draw(seeds, latents)
    np.testing.assert_allclose((shift / whole).numpy()[:, :, :1, :1], expected / 0.1, rtol=2e-3, atol=2e-3)


def enlarged(small: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation between the centres of pixels, written out."""

    def places(count: int, known: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(count) + 0.5) * known / count - 0.5, 0, known - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, known - 1), at - low

    top, bottom, down = places(height, small.shape[1])
    left, right, across = places(width, small.shape[2])
    rows = small[:, top] * (1 - down)[:, None] + small[:, bottom] * down[:, None]
    return rows[:, :, left] * (1 - across) + rows[:, :, right] * across


def test_levels_are_those_of_the_pyramid() -> None:
    """The same draws, put together by another way of enlarging."""
    channels, height, width = 2, 16, 24
    found = draw_levels([5], (channels, height, width), 8, 0.6)[0].numpy()
    generator, expected, level = torch.Generator().manual_seed(5), np.zeros((channels, height, width)), 0
    while True:
        ratio = (2 + 2 * torch.rand((), generator=generator).item()) ** level
        small = max(1, int(height / ratio)), max(1, int(width / ratio))
        drawn = torch.randn(1, channels, *small, generator=generator)[0].numpy()
        expected += 0.6**level * enlarged(drawn, height, width)
        level += 1
        if 1 in small:
            break
    assert 2 < level < 8
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_multiresolution_noise_has_unit_deviation_and_more_of_the_low() -> None:
    seeds, latents = seeds_of(48), torch.zeros(48, 4, 32, 32)
    noise = Noise(levels=6, discount=0.6).draw(seeds, latents)
    torch.testing.assert_close(noise.flatten(1).std(1), torch.ones(48), rtol=1e-5, atol=1e-5)

    def of_large_squares(tensor: torch.Tensor) -> float:
        return torch.nn.functional.avg_pool2d(tensor, 8).std().item()

    plain = Noise().draw(seeds, latents)
    assert of_large_squares(plain) == pytest.approx(1 / 8, rel=0.1)
    assert of_large_squares(noise) > 2 * of_large_squares(plain)
    none = Noise(levels=6, discount=0.0).draw(seeds, latents)  # two white noises and nothing else
    assert of_large_squares(none) == pytest.approx(1 / 8, rel=0.1)


def test_the_input_is_perturbed_by_its_strength() -> None:
    seeds = seeds_of(256)
    noise = Noise().draw(seeds, torch.zeros(256, *SHAPE))
    assert Noise().disturb(seeds, noise) is noise
    more = Noise(perturbation=0.1).disturb(seeds, noise) - noise
    assert abs(more.std() - 0.1) < 0.003 and abs(more.mean()) < 0.003
    assert abs((more * noise).mean()) < 0.003  # of its own
    varied = Noise(perturbation=0.1, perturbation_varies=True).disturb(seeds, noise) - noise
    parts = (varied / more).flatten(1)
    torch.testing.assert_close(parts.median(1).values, parts[:, 0], rtol=1e-2, atol=1e-2)
    assert abs(parts.median(1).values.mean() - 0.5) < 0.06


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
