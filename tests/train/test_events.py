"""What happens between the steps, and when."""

from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.adapters.metadata import TrainingFacts
from library.train.events import Events
from library.train.plan import make_plan


class Recorder:
    """Stands for outputs, report, previews and validation, and writes down what they are asked."""

    folder, smoothed = "logs", 0.5

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def epoch_file(self, epoch: int) -> str:
        return Path(f"epoch {epoch}")

    def step_file(self, step: int) -> str:
        return Path(f"step {step}")

    final_file = Path("final")

    def places(self, path) -> list[str]:
        return [path]

    def average_places(self, path) -> list[str]:
        return [f"{path} average"]

    def write(self, path, facts) -> None:
        self.told.append(("save", str(path), str(facts.steps), str(facts.epoch)))

    def save_state(self, path, state) -> str:
        self.told.append(("state", str(path), state.progress["step"]))
        return "a folder"

    def remember(self) -> dict:
        return {}

    def state(self) -> dict:
        return {}

    def loss(self, model, compute) -> float:
        return 0.25

    def scalars(self, step, values) -> None:
        self.told.append(("scalars", step, values))

    def draw(self):
        prompt = SimpleNamespace(seed=7, text="words")
        return [SimpleNamespace(number=0, prompt=prompt, image=None)]

    def sample_file(self, moment, number, seed) -> str:
        return f"{moment}_{number}_{seed}"

    def save_picture(self, path, preview) -> None:
        self.told.append(("picture", path))

    def note(self, paths, step, epoch) -> None:
        self.told.append(("note", *map(str, paths)))

    def __getattr__(self, name: str):
        return lambda *_: None


@pytest.fixture
def events_of(settings_of, dataset_of, compute, tiny):
    """Events of a run of 6 steps, 2 an epoch, with the recorder that they go to."""

    def _events(averages=None, schedule_free=False, shards=False, **changes):
        settings, recorder = settings_of(max_train_steps=6, **changes), Recorder()

        @contextmanager
        def averaged():
            recorder.told.append(("average",))
            yield
            recorder.told.append(("back",))

        shown = averaged if schedule_free else nullcontext

        @contextmanager
        def gathered():
            recorder.told.append(("gathered",)) if shards else None
            yield

        learner = SimpleNamespace(
            weights=tiny.state_dict, state=dict, averages=averages, averaged=shown, gathered=gathered
        )
        model = SimpleNamespace(unet=torch.nn.Module(), learner=learner, result=recorder)
        training = SimpleNamespace(model=model, plan=make_plan(settings, dataset_of(4), 1), compute=compute)
        facts = TrainingFacts("toy", "base")
        events = Events(settings, training, recorder, recorder, recorder, recorder, facts, {"seed": 7})
        return events, recorder

    return _events


def test_steps(events_of) -> None:
    events, recorder = events_of(
        save_every_n_steps=2, save_state=True, sample_every_n_steps=3, validate_every_n_steps=2
    )
    for step in range(1, 7):
        events.after_step(step)
        events.save_due(step)
    assert [told[1:] for told in recorder.told if told[0] == "save"] == [("step 2", "2", "1"), ("step 4", "4", "2")]
    assert [told for told in recorder.told if told[0] == "state"] == [("state", "step 2", 2), ("state", "step 4", 4)]
    assert [told[1] for told in recorder.told if told[0] == "picture"] == ["000003_0_7", "000006_0_7"]
    assert [told[1:] for told in recorder.told if told[0] == "scalars"] == [
        (step, {"loss/validation": 0.25}) for step in (2, 4, 6)
    ]


def test_epochs(events_of) -> None:
    events, recorder = events_of(save_every_n_epochs=1, sample_every_n_epochs=3, validate_every_n_epochs=2)
    for epoch in (1, 2, 3):
        events.after_epoch(2 * epoch, epoch)
        events.save_due(2 * epoch)
    # The last epoch's file is the finished one, which comes at the end.
    assert [told[1] for told in recorder.told if told[0] == "save"] == ["epoch 1", "epoch 2"]
    assert [told[1] for told in recorder.told if told[0] == "picture"] == ["e000003_0_7"]
    assert [told[1] for told in recorder.told if told[0] == "scalars"] == [4]


def test_results_come_before_states(events_of) -> None:
    """Each state knows of all files, and whoever goes on from one of them misses none."""
    events, recorder = events_of(save_every_n_epochs=1, save_every_n_steps=1, save_state=True)
    events.save_due(2)
    assert [told[:2] for told in recorder.told] == [
        ("note", "step 2"),
        ("save", "step 2"),
        ("save", "epoch 1"),
        ("state", "step 2"),
        ("state", "epoch 1"),
    ]
    assert recorder.told[0] == ("note", "step 2", "epoch 1")


@pytest.mark.parametrize("with_state", [True, False])
def test_killed_between_two_states(events_of, tmp_path, monkeypatch, with_state: bool) -> None:
    """The one that is missing is written when the run goes on."""
    events, recorder = events_of(save_every_n_epochs=1, save_every_n_steps=1, save_state=with_state)
    paths = {number: tmp_path / f"{number}.safetensors" for number in ("step", "epoch")}
    monkeypatch.setattr(Recorder, "step_file", lambda self, step: paths["step"])
    monkeypatch.setattr(Recorder, "epoch_file", lambda self, epoch: paths["epoch"])
    (tmp_path / "step-state").mkdir()
    events.at_resume(2)
    assert recorder.told == ([("state", str(paths["epoch"]), 2)] if with_state else [])


def test_the_average_is_written_beside(events_of) -> None:
    inside = []

    @contextmanager
    def in_place():
        inside.append(len(recorder.told))
        yield
        inside.append(len(recorder.told))

    events, recorder = events_of(averages=SimpleNamespace(in_place=in_place))
    events.at_end(6)
    assert [told[1] for told in recorder.told] == ["final", "final average"]
    assert inside == [1, 2]


def test_all_that_is_shown_is_an_average_and_the_state_is_not(events_of) -> None:
    """Of an optimizer that learns at one point and hands out another."""
    events, recorder = events_of(schedule_free=True, sample_at_first=True, save_state=True)
    events.at_start()
    events.at_end(6)
    assert [told[0] for told in recorder.told] == [
        *("average", "back", "scalars", "average", "picture", "back"),
        *("average", "save", "back", "state"),
    ]


def test_the_start(events_of) -> None:
    events, recorder = events_of(sample_at_first=True)
    events.at_start()
    assert recorder.told == [("scalars", 0, {"loss/validation": 0.25}), ("picture", "000000_0_7")]
    events, recorder = events_of()
    events.at_start()
    assert [told[0] for told in recorder.told] == ["scalars"]


@pytest.mark.parametrize(
    ("changes", "states"), [({}, 0), ({"save_state": True}, 1), ({"save_state_on_train_end": True}, 1)]
)
def test_the_end(events_of, changes: dict, states: int) -> None:
    events, recorder = events_of(**changes)
    events.at_end(6)
    assert [told[0] for told in recorder.told] == ["save", *["state"] * states]
    assert recorder.told[0][1:] == ("final", "6", "3")


def test_a_stop_always_saves_the_state(events_of) -> None:
    events, recorder = events_of()
    events.at_stop(3)
    assert [told[:2] for told in recorder.told] == [("save", "step 3"), ("state", "step 3")]


def test_nothing_without_previews_and_validation(events_of) -> None:
    events, recorder = events_of(sample_at_first=True)
    bare = Events(*(getattr(events, name) if name not in ("previews", "validation") else None for name in FIELDS))
    bare.at_start()
    assert recorder.told == []


FIELDS = tuple(Events.__dataclass_fields__)


def test_the_state_holds_what_a_run_needs(events_of, tiny) -> None:
    events, _ = events_of()
    state = events._state(4)
    assert state.progress["step"] == 4 and state.identity == {"seed": 7}
    assert {"report", "log_folder", "written", "started_at"} <= state.progress.keys()
    assert torch.equal(state.weights["unet"], tiny.matrices["unet"])


def test_slices_are_put_together_before_anything_is_written(events_of) -> None:
    """By every process, also by one that writes nothing, for else the main one would wait for it."""
    events, recorder = events_of(shards=True, save_state=True)
    events.at_end(6)
    assert [each[0] for each in recorder.told if each[0] in ("gathered", "save", "state")] == [
        "gathered",
        "save",
        "state",
    ]
    events, recorder = events_of(shards=True, save_state=True)
    object.__setattr__(events.training, "compute", replace(events.training.compute, rank=1))
    events.at_end(6)
    events.at_resume(2)
    assert [each[0] for each in recorder.told] == ["gathered", "gathered"]
