"""What is said of numbers that are none, of whose they are, and of runs that learn nothing."""

import math

import pytest
import torch

from library.log import warn
from library.train.health import DEAD, SCALING, Health

NAN, INF = float("nan"), float("inf")
FIVE = "a.png, b.png, c.png, d.png, e.png"


@pytest.fixture(autouse=True)
def said_anew() -> None:
    """Warnings are said once a run."""
    warn.cache_clear()


def noted(health: Health, step: int, *losses: float) -> None:
    """Pictures a, b, c ... with these losses."""
    health.note(step, [f"{chr(97 + number)}.png" for number in range(len(losses))], torch.tensor(losses))


@pytest.mark.parametrize(
    ("loss", "norm", "losses", "sentence"),
    [
        (NAN, NAN, (1.0, NAN, 2.0), "step 3: the loss is nan with b.png"),
        (INF, 1.0, (INF, 1.0, INF), "step 3: the loss is inf with a.png, c.png"),
        (NAN, NAN, (1.0, 2.0), "step 3: the loss is nan"),  # the picture is another process's
        (1.0, NAN, (1.0, 2.0), "step 3: the gradients are not finite with a.png, b.png"),
        (1.0, INF, (1.0,) * 7, f"step 3: the gradients are not finite with {FIVE} and 2 more"),
    ],
)
def test_the_pictures_are_named(loss: float, norm: float, losses: tuple[float, ...], sentence: str) -> None:
    health = Health()
    noted(health, 2, 1.0, NAN)
    noted(health, 3, *losses)
    with pytest.raises(FloatingPointError) as failure:
        health.judge(3, loss, norm)
    assert str(failure.value) == sentence


def test_some_in_a_row_are_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    health = Health(allowed=2)
    assert not health.judge(1, NAN, NAN)
    assert health.judge(2, 1.0, INF)
    assert health.judge(3, 1.0, 1.0)  # a new row
    assert not health.judge(4, NAN, 1.0) and not health.judge(5, NAN, 1.0)
    told = capsys.readouterr().err
    assert told.count("the weights stay as they were") == 4
    with pytest.raises(FloatingPointError, match="step 6: the loss is nan in 3 steps in a row"):
        health.judge(6, NAN, 1.0)


def test_scaling_may_search_but_not_for_ever(capsys: pytest.CaptureFixture[str]) -> None:
    health = Health(is_scaled=True)
    for step in range(1, SCALING + 1):
        assert health.judge(step, 1.0 + step, INF)
    assert capsys.readouterr().err == ""
    with pytest.raises(FloatingPointError, match="the gradients are not finite"):
        health.judge(SCALING + 1, 1.0, INF)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        Health(is_scaled=True).judge(1, NAN, NAN)


@pytest.mark.parametrize(
    ("loss", "norm", "sign"), [(None, 0.0, "gradients have been exactly 0"), (1.0, 1.0, "loss has been exactly")]
)
def test_a_dead_run_is_said_once(loss: float | None, norm: float, sign: str, capsys) -> None:
    health = Health()
    for step in range(3 * DEAD):
        health.judge(step, 1.0 / (step + 1) if loss is None else loss, norm)
    told = capsys.readouterr().err
    assert told.count(sign) == 1 and "learns nothing" in told


def test_a_living_run_is_not_called_dead(capsys) -> None:
    health = Health()
    for step in range(5 * DEAD):
        is_odd = step % (DEAD - 1) == 0  # it may stand still for a while
        health.judge(step, math.sin(step) if is_odd else 1.0, 1.0 if is_odd else 0.0)
    assert capsys.readouterr().err == ""
