"""Timesteps belong to their seeds, and are as often as their distribution says."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from library.diffusion.loss import Weighting
from library.diffusion.schedule import scaled_linear
from library.diffusion.timesteps import draw_timesteps, logit_normal_timesteps, weighed_timesteps
from library.seeds import derive_seed

SEEDS = [derive_seed(7, "timestep", sample) for sample in range(20000)]


@pytest.mark.parametrize(
    "draw",
    [
        partial(draw_timesteps, low=0, high=1000),
        partial(logit_normal_timesteps, low=0, high=1000, mean=0.0, deviation=1.0),
        partial(weighed_timesteps, low=0, chances=torch.linspace(0, 1, 1000)),
    ],
)
def test_a_timestep_depends_on_its_own_seed_only(draw) -> None:
    seeds = SEEDS[:8]
    together = draw(seeds)
    alone = torch.cat([draw([seed]) for seed in seeds])
    assert len(set(together.tolist())) > 5
    assert together.dtype == torch.int64
    assert torch.equal(together, alone)


def test_every_timestep_of_the_range_is_drawn_equally_often() -> None:
    counts = torch.bincount(draw_timesteps(SEEDS, 5, 25), minlength=25)
    assert counts[:5].sum() == 0
    assert counts[5:].sum() == len(SEEDS)
    # 1000 expected in each, standard deviation 31.
    assert counts[5:].min() > 850 and counts[5:].max() < 1150


def test_the_seeds_at_the_two_ends_give_the_two_ends() -> None:
    assert draw_timesteps([0, 2**63 - 1], 3, 1000).tolist() == [3, 999]


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (1.0, 0.5), (-0.5, 2.0)])
def test_logit_normal_timesteps_have_the_papers_density(mean: float, deviation: float) -> None:
    """Equation 19 of arXiv 2403.03206, integrated over tenths of the range."""

    def density(t: float) -> float:
        logit = np.log(t / (1 - t))
        return np.exp(-((logit - mean) ** 2) / (2 * deviation**2)) / (deviation * np.sqrt(2 * np.pi) * t * (1 - t))

    found = torch.bincount(logit_normal_timesteps(SEEDS, 100, 900, mean, deviation), minlength=900)
    assert found[:100].sum() == 0 and found.sum() == len(SEEDS)
    shares = found[100:].reshape(10, 80).sum(1) / len(SEEDS)
    expected = [quad(density, max(n / 10, 1e-9), min((n + 1) / 10, 1 - 1e-9))[0] for n in range(10)]
    assert shares.tolist() == pytest.approx(expected, abs=0.012)


def test_logit_normal_timesteps_stay_in_their_range() -> None:
    assert logit_normal_timesteps([0, 2**63 - 1], 3, 1000, 0.0, 1.0).tolist() == [3, 999]
    assert logit_normal_timesteps(SEEDS[:50], 3, 4, 5.0, 9.0).unique().tolist() == [3]


def test_weighed_timesteps_are_drawn_by_their_chances() -> None:
    chances = torch.tensor([0.0, 1.0, 0.0, 3.0, 4.0, 0.0])
    found = torch.bincount(weighed_timesteps(SEEDS, 10, chances), minlength=16)[10:]
    assert (found / len(SEEDS)).tolist() == pytest.approx((chances / 8).tolist(), abs=0.012)
    assert found[chances == 0].sum() == 0
    assert weighed_timesteps([0, 2**63 - 1], 10, chances).tolist() == [11, 14]


def test_importance_sampling_changes_no_expectation() -> None:
    """The mean over all seeds of (loss * mean weight) is that of (loss * weight) with uniform timesteps."""
    schedule = scaled_linear(0.00085, 0.012, 1000)
    weights = Weighting(min_snr_gamma=5).of(schedule.snr(torch.arange(1000)), "epsilon")
    losses = torch.linspace(0.02, 0.9, 1000).flip(0)  # as a model has them, whatever they are
    even = (weights * losses).mean()
    drawn = losses[weighed_timesteps(SEEDS, 0, weights)] * weights.mean()
    plain = (weights * losses)[draw_timesteps(SEEDS, 0, 1000)]
    assert drawn.mean().item() == pytest.approx(even.item(), rel=0.02)
    assert plain.mean().item() == pytest.approx(even.item(), rel=0.02)


@pytest.mark.parametrize(("low", "high"), [(5, 5), (6, 5), (-1, 5)])
def test_an_empty_range_is_an_error(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="low < high"):
        draw_timesteps([1], low, high)
    with pytest.raises(ValueError, match="low < high"):
        logit_normal_timesteps([1], low, high, 0, 1)
