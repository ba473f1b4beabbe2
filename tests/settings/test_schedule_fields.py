"""The defaults of the learning rate's course, and what may be written."""

import pytest

from library import lookup
from library.settings.fields import RULES
from library.settings.schedule_fields import ScheduleFields


def test_defaults() -> None:
    course = ScheduleFields()
    assert (course.lr_scheduler, course.lr_warmup_steps, course.lr_decay_steps) == ("constant", 0, None)
    assert (course.lr_scheduler_num_cycles, course.lr_scheduler_power) == (1, 1.0)
    assert (course.lr_scheduler_timescale, course.lr_scheduler_min_lr_ratio) == (None, None)
    assert (course.lr_scheduler_type, course.lr_scheduler_args) == (None, ())
    assert RULES["lr_scheduler"].choices == tuple(lookup.LR_SCHEDULES)


@pytest.mark.parametrize(("raw", "value"), [("0.25", 0.25), ("30", 30), ("0", None)])
def test_the_fall_is_steps_or_a_part_of_the_run(read, raw: str, value: float | None) -> None:
    assert read("--lr_scheduler", "cosine", "--lr_decay_steps", raw).lr_decay_steps == value


def test_rules_are_one_word(read) -> None:
    rules = "step_rules=1:100,0.1:200,0.01"
    assert read("--lr_scheduler", "piecewise_constant", "--lr_scheduler_args", rules).lr_scheduler_args == (rules,)
