"""Which timestep each training sample sees: a function of its own seed, by one of several distributions."""

from collections.abc import Sequence

import torch
from torch import Tensor

SEED_BITS = 63


def draw_timesteps(seeds: Sequence[int], low: int, high: int) -> Tensor:
    """One uniform timestep in low .. high - 1 for each sample, (batch,) int64 on the CPU.

    A seed of `library.seeds.derive_seed` is itself a uniform 63-bit number and only scaled to the range;
    a timestep therefore depends on nothing but its own seed.
    """
    _check_range(low, high)
    return torch.tensor([low + ((high - low) * seed >> SEED_BITS) for seed in seeds], dtype=torch.int64)


def logit_normal_timesteps(seeds: Sequence[int], low: int, high: int, mean: float, deviation: float) -> Tensor:
    """Timesteps of which the logit of the place in the range is normal, (batch,) int64 on the CPU.

    The density of Esser et al. 2024, arXiv 2403.03206, equation 19: most in the middle, almost none at the ends; a
    higher `mean` moves it to more noise, a higher `deviation` outwards. The seed's uniform number goes through the
    inverse of the distribution function, sigmoid(mean + deviation * normal quantile).
    """
    _check_range(low, high)
    places = torch.sigmoid(mean + deviation * torch.special.ndtri(_uniform(seeds)))
    return (low + (places * (high - low)).long()).clamp(max=high - 1)


def weighed_timesteps(seeds: Sequence[int], low: int, chances: Tensor) -> Tensor:
    """Timesteps from `low` on, in proportion to `chances` (count,), (batch,) int64 on the CPU.

    Importance sampling: where timesteps are drawn in proportion to the weights w of their losses, and each loss then
    counts with the mean of w, the sum over a run has the same expectation as with uniform timesteps and weights, and
    no step is spent on losses that hardly count (Nichol and Dhariwal 2021, arXiv 2102.09672, equation 18, with weights
    that are known beforehand, so that a draw depends on its seed alone).
    """
    edges = chances.double().cumsum(0)
    found = torch.searchsorted(edges, _uniform(seeds) * edges[-1], right=True)
    return low + found.clamp(max=int(chances.nonzero()[-1]))


def _uniform(seeds: Sequence[int]) -> Tensor:
    """Each seed as a number in [0, 1], float64."""
    return torch.tensor([seed / 2**SEED_BITS for seed in seeds], dtype=torch.float64)


def _check_range(low: int, high: int) -> None:
    if not 0 <= low < high:
        raise ValueError(f"timesteps need 0 <= low < high, not low {low}, high {high}")
