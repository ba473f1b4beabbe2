"""The files of a run, counted and measured beforehand."""

import pytest

from library.errors import InputError
from library.train import saves
from library.train.job import plan_job
from library.train.model import build_model
from library.train.outputs import Outputs
from library.train.plan import make_plan
from library.train.saves import Saves, check_output_room, output_bytes, saves_to_come
from tests.runs import Bench


@pytest.mark.parametrize(
    ("changes", "first", "files", "states"),
    [
        ({}, 0, 1, 0),
        ({"save_state_on_train_end": True}, 0, 1, 1),
        ({"save_every_n_epochs": 1}, 0, 5, 0),  # 5 epochs of 2 steps; the last one's file is the finished one
        ({"save_every_n_epochs": 1, "save_state": True}, 4, 3, 3),
        ({"save_every_n_epochs": 1, "save_last_n_epochs": 1}, 0, 3, 0),
        ({"save_every_n_steps": 3}, 0, 4, 0),
        ({"save_every_n_steps": 1, "save_last_n_steps": 2, "save_state": True}, 0, 5, 5),
        ({"save_every_n_steps": 1, "save_last_n_steps": 2, "save_last_n_steps_state": 1, "save_state": True}, 0, 5, 4),
    ],
)
def test_how_many(settings_of, dataset_of, changes: dict, first: int, files: int, states: int) -> None:
    settings = settings_of(max_train_epochs=5, **changes)
    plan = make_plan(settings, dataset_of(4), 1)
    assert saves_to_come(settings, plan, first) == Saves(files, states)


def most_on_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch, program: str, **settings: object) -> int:
    """Runs, and returns the most bytes that lay in the output folder after a file was written."""
    most, clear = [0], Outputs.clear

    def measure(self: Outputs) -> None:
        most.append(sum(path.stat().st_size for path in bench.output.rglob("*") if path.is_file()))
        clear(self)

    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "clear", measure)
        getattr(bench, program)(**settings)
    most.append(sum(path.stat().st_size for path in bench.output.rglob("*") if path.is_file()))
    return max(most)


@pytest.mark.parametrize("program", ["train", "train_all"])
def test_how_large(bench: Bench, settings_of, family, compute, monkeypatch, program: str) -> None:
    """Never less than is needed, and not much more."""
    saving = {"save_every_n_steps": 1, "save_last_n_steps": 1, "save_state": True, "ema": True}
    saving |= {"network_module": "lora", "network_dim": 16} if program == "train" else {"save_model_as": "both"}
    settings = settings_of(**saving) if program == "train" else bench_settings(bench, **saving)
    job = plan_job(settings, family, compute)
    model = build_model(settings, family, compute, job.plan.steps, job.captions())
    predicted = output_bytes(settings, model, job.plan, compute)
    written = most_on_disk(bench, monkeypatch, program, **saving)
    assert 0.9 * written <= predicted <= 1.5 * written
    monkeypatch.setattr(saves, "output_bytes", lambda *_: 10**18)
    with pytest.raises(InputError, match="output_dir: this run takes up to 1,000,000,000,000 MB"):
        check_output_room(settings, model, job.plan, compute, None)


def bench_settings(bench: Bench, **changes: object):
    """Settings of train_dreambooth.py."""
    from library.settings import read_settings
    from tests.runs import WHOLE

    return read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth")
