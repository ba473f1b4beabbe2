"""The order of things in a run, and how a signal ends it."""

from types import SimpleNamespace

import pytest

from library.train.loop import run_training
from library.train.plan import make_plan


class Recorder:
    """Stands for everything that the loop calls, and writes it down."""

    def __init__(self, plan, stop_after: int | None = None) -> None:
        self.plan, self.stop_after, self.told = plan, stop_after, []
        self.model = SimpleNamespace(learner=SimpleNamespace(rates=dict))
        self.compute = SimpleNamespace(any=bool)
        self.batches = SimpleNamespace(of_epoch=self.of_epoch)
        self.status = 143

    def of_epoch(self, epoch: int, first: int):
        for number in range(first, self.plan.steps_per_epoch):
            yield [SimpleNamespace(place=(epoch, number), captions=["a", "b"])]

    @property
    def asked(self) -> bool:
        return self.stop_after is not None and len([t for t in self.told if t[0] == "step"]) >= self.stop_after

    def step(self, number, batches, *rest):
        if rest:  # the report's
            assert rest[-1] == 2, "samples of a step"
            self.told.append(("step", number))
            return None
        (batch,) = batches
        assert divmod(number, self.plan.steps_per_epoch) == batch.place
        return None, None

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *numbers: self.told.append((name, *numbers))


@pytest.fixture
def run(settings_of, dataset_of):
    """Runs the loop for 5 steps of 2 an epoch; returns its status and what happened."""

    def _run(first: int = 0, stop_after: int | None = None) -> tuple[int, list]:
        recorder = Recorder(make_plan(settings_of(max_train_steps=5), dataset_of(4), 1), stop_after)
        return run_training(recorder, recorder, recorder, first, recorder), recorder.told

    return _run


WHOLE = [
    ("at_start",),
    *[("step", 1), ("after_step", 1), ("save_due", 1)],
    *[("step", 2), ("after_step", 2), ("after_epoch", 2, 1), ("save_due", 2)],
    *[("step", 3), ("after_step", 3), ("save_due", 3)],
    *[("step", 4), ("after_step", 4), ("after_epoch", 4, 2), ("save_due", 4)],
    *[("step", 5), ("after_step", 5), ("save_due", 5), ("at_end", 5)],
]


def test_a_whole_run(run) -> None:
    assert run() == (0, WHOLE)


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_a_resumed_run_does_the_rest(run, first: int) -> None:
    assert run(first) == (0, WHOLE[WHOLE.index(("step", first + 1)) :])


def test_a_signal_ends_it_after_the_step(run) -> None:
    assert run(stop_after=1) == (143, [*WHOLE[:4], ("at_stop", 1)])


def test_at_the_end_of_an_epoch_that_is_finished_too(run) -> None:
    assert run(stop_after=2) == (143, [*WHOLE[:8], ("at_stop", 2)])


def test_a_signal_in_the_last_step_changes_nothing(run) -> None:
    assert run(stop_after=5) == (0, WHOLE)
