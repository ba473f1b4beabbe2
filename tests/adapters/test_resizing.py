"""Other ranks: what was of lower rank anyway stays whole, and what is lost is what is said."""

import pytest
import torch

from library.adapters.decomposition import RankRule
from library.adapters.keys import LoraWeights
from library.adapters.resizing import Ranks, resize, total

CPU = torch.device("cpu")
CONV, LINEAR = "lora_unet_down_blocks_0_resnets_0_conv1", "lora_unet_mid_block_attentions_0_proj_in"


def layers_of(rank: int, kept: int | None = None) -> dict[str, LoraWeights]:
    """A convolution and a linear layer of this rank, of which only `kept` directions are not zero."""
    source = torch.Generator().manual_seed(0)
    conv = LoraWeights(torch.randn(rank, 6, 3, 3, generator=source), torch.randn(10, rank, 1, 1, generator=source), 2.0)
    linear = LoraWeights(torch.randn(rank, 12, generator=source), torch.randn(9, rank, generator=source), 2.0)
    for layer in (conv, linear):
        layer.up[:, kept or rank :] = 0
    return {CONV: conv, LINEAR: linear}


def both(rule: RankRule) -> Ranks:
    return Ranks(rule, rule)


def test_what_has_a_lower_rank_loses_nothing() -> None:
    before = layers_of(8, kept=3)
    for rule in (RankRule(3), RankRule(energy=1 - 1e-10), RankRule(ratio=1000)):
        after, losses = resize(before, both(rule), torch.float32, CPU)
        for stem, layer in after.items():
            assert layer.rank == 3 and layer.scale == 1
            torch.testing.assert_close(layer.delta(), before[stem].delta(), rtol=1e-4, atol=1e-5)
        assert total(losses) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_loss_is_what_is_missing(dtype: torch.dtype) -> None:
    before = layers_of(8)
    after, losses = resize(before, both(RankRule(4)), dtype, CPU)
    missed = whole = 0.0
    for stem, layer in after.items():
        assert layer.up.dtype == layer.down.dtype == dtype
        change = before[stem].delta()
        lost = float((change - layer.delta()).norm())
        assert losses[stem].error == pytest.approx(lost / float(change.norm()), rel=1e-4)
        values = torch.linalg.svdvals(change.flatten(1))
        assert lost == pytest.approx(float(values[4:].norm()), rel=0.01)
        missed, whole = missed + lost**2, whole + float(change.square().sum())
    assert total(losses) == pytest.approx((missed / whole) ** 0.5, rel=1e-4) and 0.1 < total(losses) < 0.9
    assert {(loss.before, loss.after) for loss in losses.values()} == {(8, 4)}


def test_a_share_of_the_length_is_kept() -> None:
    _, losses = resize(layers_of(8), both(RankRule(energy=0.9**2)), torch.float32, CPU)
    for loss in losses.values():
        assert (1 - loss.error**2) ** 0.5 >= 0.9 and loss.after < 8


def test_convolutions_have_a_rule_of_their_own() -> None:
    after, _ = resize(layers_of(8), Ranks(RankRule(5), RankRule(2)), torch.float32, CPU)
    assert after[CONV].rank == 2 and after[LINEAR].rank == 5
    assert after[CONV].down.shape == (2, 6, 3, 3) and after[CONV].up.shape == (10, 2, 1, 1)


def test_a_higher_rank_and_nothing_at_all() -> None:
    after, losses = resize(layers_of(4), both(RankRule(64)), torch.float32, CPU)
    assert after[LINEAR].rank == 4 and total(losses) < 1e-5
    nothing = {LINEAR: LoraWeights(torch.ones(4, 6), torch.zeros(5, 4), 1.0)}
    after, losses = resize(nothing, both(RankRule(energy=0.9)), torch.float32, CPU)
    assert after[LINEAR].delta().abs().max() == 0 and total(losses) == 0 == losses[LINEAR].error
