"""Schedules of other libraries: the rates are theirs, and what cannot be a schedule here is refused."""

import pytest
import torch

from library.errors import InputError
from library.optim.custom_schedules import custom_schedule


def optimizer_of(rate: float = 1.0) -> torch.optim.Optimizer:
    """An optimizer of one number."""
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=rate)


def rates_of(optimizer: torch.optim.Optimizer, schedule, steps: int) -> list[float]:
    """The rate in each step."""
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("name", ["StepLR", "torch.optim.lr_scheduler.StepLR"])
def test_it_is_the_class_of_that_name(name: str) -> None:
    optimizer = optimizer_of()
    schedule = custom_schedule(name, optimizer, ["step_size=3", "gamma=0.5"])
    assert rates_of(optimizer, schedule, 7) == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("CosineAnnealingLR", ["T_max=9"]),
        ("MultiStepLR", ["milestones=[2,5]"]),
        ("CyclicLR", ["base_lr=0.1", "max_lr=1"]),
    ],
)
def test_it_goes_on_where_it_stopped(name: str, arguments: list[str], tmp_path) -> None:
    unbroken = optimizer_of()
    expected = rates_of(unbroken, custom_schedule(name, unbroken, arguments), 8)
    first = optimizer_of()
    schedule = custom_schedule(name, first, arguments)
    rates_of(first, schedule, 4)
    torch.save([first.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    second = optimizer_of()
    resumed = custom_schedule(name, second, arguments)
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert rates_of(second, resumed, 4) == expected[4:]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("NoLR", [], "lr_scheduler_type: torch.optim.lr_scheduler has no NoLR"),
        ("torch.optim.SGD", [], "SGD is no class made from torch's LRScheduler"),
        ("StepLR", ["step=3"], 'lr_scheduler_args: StepLR has no argument "step" .did you mean "step_size"'),
        ("StepLR", [], "lr_scheduler_args: StepLR refuses its arguments: .*step_size"),
        ("StepLR", ["step_size=much"], 'lr_scheduler_args: "step_size=much" is not understood'),
        ("ReduceLROnPlateau", [], "ReduceLROnPlateau goes by how well a run does"),
    ],
)
def test_what_is_refused(name: str, arguments: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        custom_schedule(name, optimizer_of(), arguments)
