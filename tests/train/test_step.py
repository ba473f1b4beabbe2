"""The loss of a batch: each sample by itself, whatever stands beside it."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import torch

from library.data.epochs import Shape
from library.diffusion.loss import Measure, Weighting, min_snr_weight
from library.diffusion.noise import Noise
from library.diffusion.schedule import scaled_linear
from library.diffusion.timesteps import draw_timesteps
from library.models.family import Condition
from library.train.step import Batch, Objective, made_up_batch, purposes

# Stands for a model whose answer is always zero, so that the loss is the noise's own size.
FAMILY = SimpleNamespace(latent_scale=0.5, predict=lambda unet, noisy, timesteps, condition: noisy * 0)
MIN_SNR = Weighting(min_snr_gamma=5)
EVERY_NOISE = Noise(0.1, True, 0.2, 3, 0.5, 0.1, True)
CONDITION = Condition(torch.zeros(3, 77, 8))


def batch_of(*draws: int) -> Batch:
    """Samples whose latents depend on their draws."""
    means = torch.stack([torch.full((4, 8, 8), float(draw)) for draw in draws])
    return Batch(means, torch.zeros_like(means), [""] * len(draws), torch.ones(len(draws)), draws)


def objective(**changes) -> Objective:
    """Stable Diffusion's, with changes."""
    return Objective(scaled_linear(0.00085, 0.012, 1000), "epsilon", **changes)


def losses_of(aim: Objective, batch: Batch, timesteps: torch.Tensor | None = None, family=FAMILY) -> torch.Tensor:
    """What the family's answers to the objective's own questions cost."""
    return aim.losses(family, None, batch, CONDITION, aim.question(family, batch, timesteps))


def test_a_sample_is_the_same_in_every_batch() -> None:
    together = losses_of(objective(noise=EVERY_NOISE, weighting=MIN_SNR), batch_of(1, 2, 3))
    alone = [losses_of(objective(noise=EVERY_NOISE, weighting=MIN_SNR), batch_of(n)) for n in (1, 2, 3)]
    assert torch.equal(together, torch.cat(alone))
    assert len(set(together.tolist())) == 3


def test_weights_scale_the_loss() -> None:
    batch = batch_of(1, 2)
    plain = losses_of(objective(), batch)
    half = Batch(batch.mean, batch.logvar, batch.captions, torch.tensor([0.5, 0.0]), batch.draws)
    assert torch.equal(losses_of(objective(), half), plain * torch.tensor([0.5, 0.0]))


def test_masks_come_before_the_mean_and_the_weights_after_it() -> None:
    batch = batch_of(1, 2, 3)
    mask = torch.ones(3, 1, 8, 8)
    plain = losses_of(objective(weighting=MIN_SNR), batch)
    white = replace(batch, mask=mask.clone())
    assert torch.equal(losses_of(objective(weighting=MIN_SNR), white), plain)
    mask[1] *= 0.5
    mask[2, :, :4] = 0
    masked = losses_of(objective(weighting=MIN_SNR), replace(batch, mask=mask))
    assert masked[0] == plain[0]
    torch.testing.assert_close(masked[1], plain[1] / 2)
    assert 0.3 < masked[2] / plain[2] < 0.7
    weighed = replace(batch, mask=mask, weights=torch.tensor([1.0, 3.0, 0.0]))
    found = losses_of(objective(weighting=MIN_SNR), weighed)
    torch.testing.assert_close(found, masked * weighed.weights)


def test_min_snr_weighs_by_timestep() -> None:
    timesteps = torch.tensor([5, 900])
    plain = losses_of(objective(), batch_of(1, 2), timesteps)
    weighed = losses_of(objective(weighting=MIN_SNR), batch_of(1, 2), timesteps)
    expected = min_snr_weight(objective().schedule.snr(timesteps), 5, "epsilon")
    torch.testing.assert_close(weighed / plain, expected)
    assert weighed[0] < plain[0] and weighed[1] == plain[1]


def test_weights_even_out_where_timesteps_are_drawn_by_them() -> None:
    timesteps = torch.tensor([5, 900])
    plain = losses_of(objective(), batch_of(1, 2), timesteps)
    drawn = losses_of(objective(weighting=MIN_SNR, even_weight=0.25), batch_of(1, 2), timesteps)
    torch.testing.assert_close(drawn, plain / 4)


def test_errors_are_measured_as_asked() -> None:
    """Answers of 0, so that errors are the noise itself: its mean size, and the pseudo-Huber of it."""
    timesteps, batch = torch.tensor([5, 900]), batch_of(1, 2)
    noise = objective().question(FAMILY, batch, timesteps).target
    absolute = losses_of(objective(measure=Measure("l1")), batch, timesteps)
    torch.testing.assert_close(absolute, noise.abs().flatten(1).mean(1))
    found = losses_of(objective(measure=Measure("huber", "exponential", 0.1, 2.0)), batch, timesteps)
    c = torch.tensor([2 * 0.1**0.005, 2 * 0.1**0.9]).reshape(2, 1, 1, 1)
    expected = (2 * c * ((noise.square() + c.square()).sqrt() - c)).flatten(1).mean(1)
    torch.testing.assert_close(found, expected)


def test_a_perturbed_input_keeps_its_answer() -> None:
    """The model gets more noise than it is to tell; latents and timesteps are the same."""
    timesteps, batch = torch.tensor([300, 700]), batch_of(1, 2)
    plain = objective().question(FAMILY, batch, timesteps)
    other = objective(noise=Noise(perturbation=0.1)).question(FAMILY, batch, timesteps)
    assert torch.equal(plain.target, other.target)
    spread = (1 - objective().schedule.alphas_cumprod[timesteps]).sqrt()
    more = (other.noisy - plain.noisy).flatten(1).std(1)
    torch.testing.assert_close(more, 0.1 * spread, rtol=0.15, atol=0)


def test_other_noise_is_asked_for_too() -> None:
    timesteps, batch = torch.tensor([300]), batch_of(1)
    found = objective(noise=Noise(offset=0.5)).question(FAMILY, batch, timesteps)
    plain = objective().question(FAMILY, batch, timesteps)
    shift = found.target - plain.target
    assert torch.allclose(shift, shift[:, :, :1, :1].expand_as(shift), atol=1e-6) and shift.abs().max() > 0.05
    spread = (1 - objective().schedule.alphas_cumprod[300]).sqrt()
    torch.testing.assert_close(found.noisy - plain.noisy, spread * shift, rtol=1e-4, atol=1e-5)


def test_timesteps_stay_in_their_range() -> None:
    seen = []

    def predict(unet, noisy, timesteps, condition):
        seen.extend(timesteps.tolist())
        return noisy

    family = SimpleNamespace(latent_scale=1.0, predict=predict)
    losses_of(objective(draw=partial(draw_timesteps, low=100, high=110)), batch_of(*range(60)), family=family)
    assert set(seen) == set(range(100, 110))


def test_latents_are_sampled_and_scaled() -> None:
    """At timestep 0 nearly nothing but the scaled latents is left."""
    seen = []
    family = SimpleNamespace(latent_scale=0.5, predict=lambda u, noisy, t, c: seen.append(noisy) or noisy)
    sharp = Batch(torch.full((1, 4, 64, 64), 8.0), torch.full((1, 4, 64, 64), -30.0), [""], torch.ones(1), [1])
    losses_of(objective(), sharp, torch.tensor([0]), family)
    assert abs(seen[0].mean().item() - 4.0) < 0.01
    wide = Batch(sharp.mean, torch.zeros_like(sharp.mean), [""], torch.ones(1), [1])
    losses_of(objective(), wide, torch.tensor([0]), family)
    assert abs(seen[1].std().item() - 0.5) < 0.02


def test_every_purpose_has_seeds_of_its_own() -> None:
    kinds = [purposes([1, 2], purpose) for purpose in ("latent", "noise", "timestep")]
    assert len({seed for kind in kinds for seed in kind}) == 6
    assert purposes([1, 2], "noise") == kinds[1]


def test_a_made_up_batch_is_like_a_real_one() -> None:
    made = made_up_batch(Shape((128, 64), 3), 4, torch.device("cpu"))
    assert made.mean.shape == made.logvar.shape == (3, 4, 8, 16)
    assert made.sizes.shape == (3, 6) and made.weights.sum() == 1
    assert len(made.captions) == len(made.draws) == len(made.names) == len(made.of_class) == 3
