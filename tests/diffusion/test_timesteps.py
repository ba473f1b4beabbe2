"""Timesteps belong to their seeds and are uniform."""

import pytest
import torch

from library.diffusion.timesteps import draw_timesteps
from library.seeds import derive_seed


def test_a_timestep_depends_on_its_own_seed_only() -> None:
    seeds = [derive_seed(1, "timestep", sample) for sample in range(8)]
    together = draw_timesteps(seeds, 0, 1000)
    alone = torch.cat([draw_timesteps([seed], 0, 1000) for seed in seeds])
    assert together.dtype == torch.int64
    assert torch.equal(together, alone)


def test_every_timestep_of_the_range_is_drawn_equally_often() -> None:
    seeds = [derive_seed(7, "timestep", sample) for sample in range(20000)]
    counts = torch.bincount(draw_timesteps(seeds, 5, 25), minlength=25)
    assert counts[:5].sum() == 0
    assert counts[5:].sum() == len(seeds)
    # 1000 expected in each, standard deviation 31.
    assert counts[5:].min() > 850 and counts[5:].max() < 1150


def test_the_seeds_at_the_two_ends_give_the_two_ends() -> None:
    assert draw_timesteps([0, 2**63 - 1], 3, 1000).tolist() == [3, 999]


@pytest.mark.parametrize(("low", "high"), [(5, 5), (6, 5), (-1, 5)])
def test_an_empty_range_is_an_error(low: int, high: int) -> None:
    with pytest.raises(ValueError, match="low < high"):
        draw_timesteps([1], low, high)
