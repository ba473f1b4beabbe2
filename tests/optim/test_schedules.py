"""The schedules against those of diffusers and transformers, and where they differ on purpose."""

import pytest
import torch
from diffusers.optimization import get_scheduler
from transformers.optimization import (
    get_cosine_with_min_lr_schedule_with_warmup,
    get_inverse_sqrt_schedule,
    get_wsd_schedule,
)

from library.errors import InputError
from library.lookup import LR_SCHEDULES
from library.optim.schedules import POLYNOMIAL_END, Course, build_schedule, parse_rules

OF_DIFFUSERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
FALLING = ("linear", "cosine", "cosine_with_restarts", "polynomial", "warmup_stable_decay", "rex")
RULES = "1:3,0.5:6,0.1:9,0.01"


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


def course_rates(name: str, course: Course, steps: int | None = None) -> list[float]:
    """The rates of a schedule whose full rate is 1."""
    optimizer = optimizer_of(1.0)
    return [rate for [rate] in rates_of(optimizer, build_schedule(name, optimizer, course), steps or course.steps)]


def reference_rates(build, steps: int) -> list[float]:
    """The same of a schedule that `build` makes for an optimizer."""
    optimizer = optimizer_of(1.0)
    return [rate for [rate] in rates_of(optimizer, build(optimizer), steps)]


@pytest.mark.parametrize("name", OF_DIFFUSERS)
@pytest.mark.parametrize(
    ("steps", "warmup", "cycles", "power"), [(20, 0, 1, 1.0), (20, 5, 3, 2.0), (7, 3, 2, 0.5), (4, 3, 1, 1.0)]
)
def test_the_rates_are_those_of_diffusers(name: str, steps: int, warmup: int, cycles: int, power: float) -> None:
    if name == "constant":
        warmup = 0
    ours, theirs = optimizer_of(1e-3), optimizer_of(1e-3)
    schedule = build_schedule(name, ours, Course(steps, warmup, cycles=cycles, power=power))
    reference = get_scheduler(name, theirs, None, warmup, steps, cycles, power)
    expected = rates_of(theirs, reference, steps + 1)
    assert rates_of(ours, schedule, steps + 1) == [pytest.approx(each, rel=1e-9, abs=1e-15) for each in expected]


@pytest.mark.parametrize(("warmup", "timescale"), [(0, None), (5, None), (5, 3), (0, 40), (7, 100)])
def test_the_inverse_square_root_is_that_of_transformers(warmup: int, timescale: int | None) -> None:
    expected = reference_rates(lambda each: get_inverse_sqrt_schedule(each, warmup, timescale or warmup or 10_000), 30)
    assert course_rates("inverse_sqrt", Course(30, warmup, timescale=timescale)) == pytest.approx(expected)


@pytest.mark.parametrize(("warmup", "cycles"), [(0, 1), (4, 1), (4, 3)])
def test_the_cosine_above_a_lowest_rate_is_that_of_transformers(warmup: int, cycles: int) -> None:
    """sd-scripts hands half of lr_scheduler_num_cycles on as its num_cycles."""
    expected = reference_rates(
        lambda each: get_cosine_with_min_lr_schedule_with_warmup(each, warmup, 20, cycles / 2, min_lr_rate=0.2), 20
    )
    found = course_rates("cosine_with_min_lr", Course(20, warmup, cycles=cycles, lowest=0.2))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(("warmup", "decay", "lowest"), [(0, 5, None), (4, 6, None), (4, 6, 0.25), (0, 20, 0.1)])
def test_warmup_stable_decay_is_that_of_transformers(warmup: int, decay: int, lowest: float | None) -> None:
    expected = reference_rates(
        lambda each: get_wsd_schedule(each, warmup, decay, num_training_steps=20, min_lr_ratio=lowest or 0.0), 20
    )
    found = course_rates("warmup_stable_decay", Course(20, warmup, decay, lowest=lowest))
    assert found[warmup:] == pytest.approx(expected[warmup:])
    assert found[:warmup] == pytest.approx([step / warmup for step in range(warmup)])  # theirs begins at the lowest
    assert set(found[warmup : 20 - decay]) <= {1.0}


def test_pieces_are_those_of_diffusers() -> None:
    expected = reference_rates(lambda each: get_scheduler("piecewise_constant", each, step_rules=RULES), 12)
    assert course_rates("piecewise_constant", Course(12, rules=RULES)) == pytest.approx(expected)
    parts = course_rates("piecewise_constant", Course(12, rules="1:0.25,0.5:0.5,0.1:0.75,0.01"))
    assert parts == pytest.approx(expected)
    assert course_rates("piecewise_constant", Course(12, 2, rules=RULES))[:4] == pytest.approx([0, 0.5, 1, 0.5])


@pytest.mark.parametrize(
    "rules", ["", "1:10", "x", "1:10,0.1:5,0.01", "1:10,0.1:10,1", "1:2:3,0.1", "-1:10,0.1", "1:nan,1", "1:0,1"]
)
def test_rules_that_are_none_are_refused(rules: str) -> None:
    with pytest.raises(InputError, match="lr_scheduler_args: step_rules is"):
        parse_rules(rules, 100)
    with pytest.raises(InputError, match="step_rules"):
        build_schedule("piecewise_constant", optimizer_of(1.0), Course(100, rules=rules))


def test_rex_has_the_papers_values() -> None:
    """(1 - z) / (1 / 2 + (1 - z) / 2): 2 / 3 at half of the run, and the slope is -1 / 2 first and -2 at last."""
    found = course_rates("rex", Course(1000), 1001)
    assert (found[0], found[500], found[1000]) == (1.0, pytest.approx(2 / 3), 0.0)
    assert (found[0] - found[1]) * 1000 == pytest.approx(0.5, rel=1e-2)
    assert (found[999] - found[1000]) * 1000 == pytest.approx(2, rel=1e-2)
    above_linear = [
        one > other for one, other in zip(found[1:1000], course_rates("linear", Course(1000))[1:], strict=True)
    ]
    assert all(above_linear)


@pytest.mark.parametrize("name", FALLING)
def test_all_that_falls_can_stay_first_and_end_above_zero(name: str) -> None:
    late = course_rates(name, Course(20, 4, 8, cycles=2), 21)
    assert late[4:13] == [1.0] * 9 and late[13] < 1
    early = course_rates(name, Course(8, 0, cycles=2), 9)
    assert late[12:] == pytest.approx(early)
    lifted = course_rates(name, Course(20, 4, 8, cycles=2, lowest=0.25), 21)
    bottom = POLYNOMIAL_END if name == "polynomial" else 0.0
    assert lifted[12:] == pytest.approx([0.25 + 0.75 * (each - bottom) / (1 - bottom) for each in late[12:]])


def test_a_fall_longer_than_the_run_begins_after_the_warmup() -> None:
    assert course_rates("linear", Course(10, 2, 50)) == course_rates("linear", Course(10, 2))


def test_a_constant_rate_warms_up_if_asked() -> None:
    assert course_rates("constant", Course(10, 4), 6) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]


def test_groups_keep_their_own_rates_and_polynomial_ends_them_alike() -> None:
    optimizer = optimizer_of(1e-3, 5e-5, 0.0)
    schedule = build_schedule("polynomial", optimizer, Course(10))
    rates = rates_of(optimizer, schedule, 11)
    assert rates[0] == [1e-3, 5e-5, 0.0]
    assert rates[-1] == pytest.approx([1e-7, 1e-7, 0.0])


@pytest.mark.parametrize("name", LR_SCHEDULES)
def test_a_schedule_goes_on_where_it_stopped(name: str, tmp_path) -> None:
    course = Course(10, 3, 4, 2, 2.0, rules=RULES)
    unbroken = optimizer_of(1e-3, 1e-4)
    expected = rates_of(unbroken, build_schedule(name, unbroken, course), 10)
    first = optimizer_of(1e-3, 1e-4)
    schedule = build_schedule(name, first, course)
    rates_of(first, schedule, 4)
    torch.save([first.state_dict(), schedule.state_dict()], tmp_path / "state.pt")
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    second = optimizer_of(1e-3, 1e-4)
    resumed = build_schedule(name, second, course)
    second.load_state_dict(states[0])
    resumed.load_state_dict(states[1])
    assert rates_of(second, resumed, 6) == expected[4:]


@pytest.mark.parametrize("name", FALLING)
def test_nothing_rises_again_after_the_end(name: str) -> None:
    rates = course_rates(name, Course(5, 2, cycles=2), 12)
    assert max(rates[5:]) == pytest.approx(POLYNOMIAL_END if name == "polynomial" else 0.0)


def test_names_are_found_whatever_their_case_and_unknown_ones_refused() -> None:
    build_schedule("Cosine", optimizer_of(1.0), Course(10))
    with pytest.raises(InputError, match='lr_scheduler: "cosin" is not known.*did you mean "cosine"'):
        build_schedule("cosin", optimizer_of(1.0), Course(10))


@pytest.mark.parametrize("name", [name for name in LR_SCHEDULES if name != "piecewise_constant"])
def test_a_span_is_a_whole_run_of_its_own(name: str) -> None:
    """Two groups that take turns, and one that learns in all 20 steps."""

    def course(steps: int, warmup: int, decay: int) -> Course:
        return Course(steps, warmup, decay, 2, 1.5)

    optimizer, short, long = optimizer_of(1e-3, 1e-3, 1e-3), optimizer_of(1e-3), optimizer_of(1e-3)
    for group, title in zip(optimizer.param_groups, ("first", "second", "third"), strict=True):
        group["name"] = title
    spans = {"first": range(5), "second": range(5, 20)}
    found = rates_of(optimizer, build_schedule(name, optimizer, course(20, 4, 8), spans), 20)
    first = rates_of(short, build_schedule(name, short, course(5, 1, 2)), 5)
    second = rates_of(long, build_schedule(name, long, course(15, 3, 6)), 15)
    whole = optimizer_of(1e-3)
    third = rates_of(whole, build_schedule(name, whole, course(20, 4, 8)), 20)
    assert [rates[0] for rates in found] == pytest.approx([rate for [rate] in first] + [0] * 15)
    assert [rates[1] for rates in found] == pytest.approx([0] * 5 + [rate for [rate] in second])
    assert [rates[2] for rates in found] == pytest.approx([rate for [rate] in third])
