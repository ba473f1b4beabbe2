"""Weights moved one by one: the same steps as all at once, in bf16 too, and a state that goes on exactly."""

import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from library.lookup import OPTIMIZERS
from library.optim.one_by_one import OneByOne, round_stochastically
from library.optim.optimizers import build_optimizer
from library.settings.whole_checks import NOT_ONE_BY_ONE

SHAPES = ((64, 96), (32, 16, 3, 3), (48,))


def weights_of(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    """Three weights, always the same."""
    generator = torch.Generator().manual_seed(3)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def groups_of(weights: list[nn.Parameter], rate: float = 0.01) -> list[dict]:
    """Two groups."""
    return [{"params": weights[:2], "lr": rate, "name": "a"}, {"params": weights[2:], "lr": rate / 2, "name": "b"}]


def pull(weights: list[nn.Parameter], step: int) -> None:
    """Gives every weight a gradient."""
    generator = torch.Generator().manual_seed(100 + step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator).to(weight.dtype)


def stepped(one_by_one: OneByOne, weights: list[nn.Parameter], steps: range) -> None:
    """Some steps."""
    for step in steps:
        pull(weights, step)
        one_by_one.number = step
        for weight in weights:
            one_by_one.step(weight)


@given(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), st.integers(0, 2**31))
def test_rounding_goes_to_a_neighbour(value: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rounded = round_stochastically(torch.full((64,), value), generator).double()
    low = (torch.tensor(value).view(torch.int32) & -65536).view(torch.float32).double()
    high = ((torch.tensor(value).view(torch.int32) & -65536) + 65536).view(torch.float32).double()
    assert set(rounded.tolist()) <= {low.item(), high.item()}
    if low.item() == value:
        assert (rounded == value).all()


def test_rounding_keeps_the_mean_and_what_is_no_number() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.full((200_000,), 1.001)
    assert values.to(torch.bfloat16).float().mean() == 1  # to the nearest it would be lost
    assert round_stochastically(values, generator).double().mean().item() == pytest.approx(1.001, abs=2e-5)
    odd = torch.tensor([float("inf"), -float("inf"), float("nan"), 0.0])
    rounded = round_stochastically(odd, generator)
    assert rounded[:2].tolist() == [float("inf"), -float("inf")] and rounded[2].isnan() and rounded[3] == 0


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in NOT_ONE_BY_ONE])
def test_the_same_as_all_at_once(name: str) -> None:
    together, alone = weights_of(), weights_of()
    optimizer = build_optimizer(name, groups_of(together))
    one_by_one = OneByOne(name, groups_of(alone), (), 7)
    for step in range(3):
        pull(together, step)
        optimizer.step()
    stepped(one_by_one, alone, range(3))
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        assert other.grad is None


def test_what_the_settings_refuse_is_what_cannot_be() -> None:
    assert set(NOT_ONE_BY_ONE) < set(OPTIMIZERS)


@pytest.mark.parametrize("name", ["AdamW", "AdamW8bit", "Adafactor", "Lion"])
def test_bf16_weights_go_where_float32_goes(name: str) -> None:
    """Steps of a thousandth of a weight, which rounding to the nearest would lose, add up."""
    exact, rounded = weights_of(), weights_of(torch.bfloat16)
    for one, other in zip(exact, rounded, strict=True):
        one.data.copy_(other)
    start = [weight.detach().clone() for weight in exact]
    plain = OneByOne(name, groups_of(exact, 1e-4), (), 7)
    bf16 = OneByOne(name, groups_of(rounded, 1e-4), (), 7)
    for step in range(40):
        for weights in (exact, rounded):
            for weight in weights:
                weight.grad = torch.ones_like(weight)
        plain.number = bf16.number = step
        for one, other in zip(exact, rounded, strict=True):
            plain.step(one)
            bf16.step(other)
    assert all(weight.dtype == torch.bfloat16 for weight in rounded)
    for before, one, other in zip(start, exact, rounded, strict=True):
        moved, wanted = (other.float() - before).mean().item(), (one - before).mean().item()
        assert moved == pytest.approx(wanted, rel=0.15)


@pytest.mark.parametrize("name", ["AdamW", "AdamW8bit", "Adafactor"])
def test_a_state_goes_on_exactly_in_bf16(name: str) -> None:
    weights = weights_of(torch.bfloat16)
    one_by_one = OneByOne(name, groups_of(weights), (), 7)
    stepped(one_by_one, weights, range(2))
    file = io.BytesIO()
    torch.save([one_by_one.optimizer.state_dict(), [each.detach() for each in weights]], file)
    file.seek(0)
    state, held = torch.load(file, weights_only=True)
    again = [nn.Parameter(each) for each in held]
    other = OneByOne(name, groups_of(again), (), 7)
    other.optimizer.load_state_dict(state)
    moments = [each for entry in other.optimizer.state.values() for each in entry.values() if torch.is_tensor(each)]
    assert not any(each.dtype == torch.bfloat16 for each in moments)
    stepped(one_by_one, weights, range(2, 4))
    stepped(other, again, range(2, 4))
    assert all(torch.equal(one, two) for one, two in zip(weights, again, strict=True))


def test_rounding_depends_on_seed_step_and_place() -> None:
    def after(seed: int, steps: range) -> torch.Tensor:
        weights = weights_of(torch.bfloat16)
        plain = ("momentum=0.0", "nesterov=False")
        stepped(OneByOne("SGDNesterov", groups_of(weights, 1e-3), plain, seed), weights, steps)
        return weights[0].detach()

    assert torch.equal(after(7, range(1)), after(7, range(1)))
    assert not torch.equal(after(7, range(1)), after(8, range(1)))


def test_in_the_backward_pass() -> None:
    weights = weights_of()
    one_by_one = OneByOne("SGDNesterov", groups_of(weights, 1.0), ("momentum=0.0", "nesterov=False"), 7)
    one_by_one.step_in_backward()
    before = [weight.detach().clone() for weight in weights]
    (weights[0].sum() * 2 + weights[2].sum() * 4).backward()
    assert all(weight.grad is None for weight in weights)
    torch.testing.assert_close(weights[0].detach(), before[0] - 2)
    assert torch.equal(weights[1], before[1])
    torch.testing.assert_close(weights[2].detach(), before[2] - 4 * 0.5)
    wanted = (4 * weights[0].numel() + 16 * weights[2].numel()) ** 0.5
    assert one_by_one.take_norm().item() == pytest.approx(wanted, rel=1e-5)
