"""The loss of a batch: each sample by itself, whatever stands beside it."""

from dataclasses import replace
from types import SimpleNamespace

import torch

from library.diffusion.loss import min_snr_weight
from library.diffusion.schedule import scaled_linear
from library.models.family import Condition
from library.train.step import Batch, Objective, purposes

# Stands for a model whose answer is always zero, so that the loss is the noise's own size.
FAMILY = SimpleNamespace(latent_scale=0.5, predict=lambda unet, noisy, timesteps, condition: noisy * 0)
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
    together = losses_of(objective(noise_offset=0.1, min_snr_gamma=5), batch_of(1, 2, 3))
    alone = [
        losses_of(objective(noise_offset=0.1, min_snr_gamma=5), batch_of(n)) for n in (1, 2, 3)
    ]
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
    plain = losses_of(objective(min_snr_gamma=5), batch)
    white = replace(batch, mask=mask.clone())
    assert torch.equal(losses_of(objective(min_snr_gamma=5), white), plain)
    mask[1] *= 0.5
    mask[2, :, :4] = 0
    masked = losses_of(objective(min_snr_gamma=5), replace(batch, mask=mask))
    assert masked[0] == plain[0]
    torch.testing.assert_close(masked[1], plain[1] / 2)
    assert 0.3 < masked[2] / plain[2] < 0.7
    weighed = replace(batch, mask=mask, weights=torch.tensor([1.0, 3.0, 0.0]))
    found = losses_of(objective(min_snr_gamma=5), weighed)
    torch.testing.assert_close(found, masked * weighed.weights)


def test_min_snr_weighs_by_timestep() -> None:
    timesteps = torch.tensor([5, 900])
    plain = losses_of(objective(), batch_of(1, 2), timesteps)
    weighed = losses_of(objective(min_snr_gamma=5), batch_of(1, 2), timesteps)
    expected = min_snr_weight(objective().schedule.snr(timesteps), 5, "epsilon")
    torch.testing.assert_close(weighed / plain, expected)
    assert weighed[0] < plain[0] and weighed[1] == plain[1]


def test_timesteps_stay_in_their_range() -> None:
    seen = []

    def predict(unet, noisy, timesteps, condition):
        seen.extend(timesteps.tolist())
        return noisy

    family = SimpleNamespace(latent_scale=1.0, predict=predict)
    losses_of(objective(lowest_timestep=100, highest_timestep=110), batch_of(*range(60)), family=family)
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
