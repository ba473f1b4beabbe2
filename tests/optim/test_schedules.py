"""The schedules against diffusers' own, and where they differ on purpose."""

import pytest
import torch
from diffusers.optimization import get_scheduler

from library.errors import InputError
from library.lookup import LR_SCHEDULES
from library.optim.schedules import build_schedule


def optimizer_of(*rates: float) -> torch.optim.Optimizer:
    """An optimizer with one group for each rate; the first is also its default, which diffusers looks at."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=rates[0])


def rates_of(optimizer: torch.optim.Optimizer, schedule, steps: int) -> list[list[float]]:
    """The groups' rates in each step."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", LR_SCHEDULES)
@pytest.mark.parametrize(
    ("steps", "warmup", "cycles", "power"), [(20, 0, 1, 1.0), (20, 5, 3, 2.0), (7, 3, 2, 0.5), (4, 3, 1, 1.0)]
)
def test_the_rates_are_those_of_diffusers(
    name: str, steps: int, warmup: int, cycles: int, power: float
) -> None:
    if name == "constant":
        warmup = 0
    ours, theirs = optimizer_of(1e-3), optimizer_of(1e-3)
    schedule = build_schedule(name, ours, steps, warmup, cycles, power)
    reference = get_scheduler(name, theirs, None, warmup, steps, cycles, power)
    expected = rates_of(theirs, reference, steps + 1)
    assert rates_of(ours, schedule, steps + 1) == [
        pytest.approx(each, rel=1e-9, abs=1e-15) for each in expected
    ]


def test_a_constant_rate_warms_up_if_asked() -> None:
    optimizer = optimizer_of(1.0)
    schedule = build_schedule("constant", optimizer, 10, 4)
    assert [each[0] for each in rates_of(optimizer, schedule, 6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_groups_keep_their_own_rates_and_polynomial_ends_them_alike() -> None:
    optimizer = optimizer_of(1e-3, 5e-5, 0.0)
    schedule = build_schedule("polynomial", optimizer, 10, 0)
    rates = rates_of(optimizer, schedule, 11)
    assert rates[0] == [1e-3, 5e-5, 0.0]
    assert rates[-1] == pytest.approx([1e-7, 1e-7, 0.0])


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_a_schedule_goes_on_where_it_stopped(name: str, tmp_path) -> None:
    unbroken = optimizer_of(1e-3, 1e-4)
    expected = rates_of(unbroken, build_schedule(name, unbroken, 10, 3, 2, 2.0), 10)
    first = optimizer_of(1e-3, 1e-4)
    schedule = build_schedule(name, first, 10, 3, 2, 2.0)
    rates_of(first, schedule, 4)
    torch.save([first.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    second = optimizer_of(1e-3, 1e-4)
    resumed = build_schedule(name, second, 10, 3, 2, 2.0)
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert rates_of(second, resumed, 6) == expected[4:]


@pytest.mark.parametrize("name", ["linear", "cosine", "cosine_with_restarts", "polynomial"])
def test_nothing_rises_again_after_the_end(name: str) -> None:
    optimizer = optimizer_of(1e-3)
    rates = rates_of(optimizer, build_schedule(name, optimizer, 5, 2, 2), 12)
    assert max(each[0] for each in rates[5:]) == pytest.approx(1e-7 if name == "polynomial" else 0.0)


def test_names_are_found_whatever_their_case_and_unknown_ones_refused() -> None:
    build_schedule("Cosine", optimizer_of(1.0), 10)
    with pytest.raises(InputError, match='lr_scheduler: "cosin" is not known.*did you mean "cosine"'):
        build_schedule("cosin", optimizer_of(1.0), 10)


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_a_span_is_a_whole_run_of_its_own(name: str) -> None:
    """Two groups that take turns, and one that learns in all 20 steps."""
    optimizer, short, long = optimizer_of(1e-3, 1e-3, 1e-3), optimizer_of(1e-3), optimizer_of(1e-3)
    for group, title in zip(optimizer.param_groups, ("first", "second", "third"), strict=True):
        group["name"] = title
    spans = {"first": range(5), "second": range(5, 20)}
    found = rates_of(optimizer, build_schedule(name, optimizer, 20, 4, 2, 1.5, spans), 20)
    first = rates_of(short, build_schedule(name, short, 5, 1, 2, 1.5), 5)
    second = rates_of(long, build_schedule(name, long, 15, 3, 2, 1.5), 15)
    whole = optimizer_of(1e-3)
    third = rates_of(whole, build_schedule(name, whole, 20, 4, 2, 1.5), 20)
    assert [rates[0] for rates in found] == pytest.approx([rate for [rate] in first] + [0] * 15)
    assert [rates[1] for rates in found] == pytest.approx([0] * 5 + [rate for [rate] in second])
    assert [rates[2] for rates in found] == pytest.approx([rate for [rate] in third])
