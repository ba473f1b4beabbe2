"""Which timestep each training sample sees."""

from collections.abc import Sequence

import torch
from torch import Tensor

SEED_BITS = 63


def draw_timesteps(seeds: Sequence[int], low: int, high: int) -> Tensor:
    """One uniform timestep in low .. high - 1 for each sample, (batch,) int64 on the CPU.

    A seed of `library.seeds.derive_seed` is itself a uniform 63-bit number and only scaled to the range;
    a timestep therefore depends on nothing but its own seed.
    """
    if not 0 <= low < high:
        raise ValueError(f"timesteps need 0 <= low < high, not low {low}, high {high}")
    return torch.tensor([low + ((high - low) * seed >> SEED_BITS) for seed in seeds], dtype=torch.int64)
