"""Which state is taken up, and when there is none to take."""

from types import SimpleNamespace

import pytest
import torch

from library.errors import InputError
from library.train.plan import make_plan
from library.train.resume import find_state, restore
from library.train.state import State, save_state

IDENTITY = {"seed": 7}


@pytest.fixture
def find(settings_of, dataset_of, bench):
    """Looks for a state in the output folder."""

    def _find(**changes):
        settings = settings_of(**{"max_train_steps": 4, **changes})
        return find_state(settings, make_plan(settings, dataset_of(4), 1), IDENTITY)

    return _find


@pytest.fixture
def saved(bench):
    """States at steps 2 and 3."""
    for step in (2, 3):
        state = State({"a": torch.ones(1)}, {}, {"step": step}, IDENTITY)
        bench.output.mkdir(exist_ok=True)
        save_state(bench.output / f"toy-step{step:08d}-state", state)


def test_not_asked(find, saved) -> None:
    assert find() is None


def test_the_newest_or_the_named(find, saved, bench, capsys) -> None:
    assert find(resume="auto").progress["step"] == 3
    assert "going on from" in capsys.readouterr().out
    assert find(resume=bench.output / "toy-step00000002-state").progress["step"] == 2
    assert find(resume="auto", output_name="other") is None


def test_nothing_is_left_to_do(find, saved) -> None:
    with pytest.raises(InputError, match="at step 3 already, and this run ends at step 3.*max_train_steps"):
        find(resume="auto", max_train_steps=3)


def test_everything_is_put_back() -> None:
    told = {}
    learner = SimpleNamespace(restore=lambda weights, optimizer: told.update(learner=(weights, optimizer)))
    events = SimpleNamespace(
        training=SimpleNamespace(model=SimpleNamespace(learner=learner)),
        report=SimpleNamespace(restore=lambda state: told.update(report=state)),
        outputs=SimpleNamespace(restore=lambda state: told.update(outputs=state)),
    )
    progress = {"step": 5, "report": {"average": 1}, "written": {"epoch_files": []}}
    assert restore(State({"a": 1}, {"b": 2}, progress, IDENTITY), events) == 5
    assert told == {"learner": ({"a": 1}, {"b": 2}), "report": {"average": 1}, "outputs": {"epoch_files": []}}
