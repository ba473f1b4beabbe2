"""What is around the loop: the objective, the log folder, and what is told at the end."""

import signal
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from library.train import run as run_module
from library.train.run import make_previews, new_log_folder, open_report, run
from library.train.state import State
from tests.runs import events_of


def test_log_folder(settings_of, bench) -> None:
    folder = new_log_folder(settings_of(log_prefix="a-", log_tracker_name="run"))
    assert folder.parent == bench.logs and folder.name.startswith("a-run-2")
    first = new_log_folder(settings_of())
    assert first.name.startswith("toy-2")
    for second in range(3):  # the clock may go on meanwhile
        (bench.logs / f"toy-{datetime.now() + timedelta(seconds=second):%Y%m%d-%H%M%S}").mkdir(parents=True)
    assert new_log_folder(settings_of()).name.endswith("-2")


def test_report_goes_on_in_its_folder(settings_of, compute, bench) -> None:
    first = open_report(settings_of(), compute, 4, None)
    first.close()
    state = State({}, {}, {"step": 2, "log_folder": str(first.folder)}, {})
    again = open_report(settings_of(), compute, 4, state)
    again.close()
    assert again.folder == first.folder
    gone = State({}, {}, {"step": 2, "log_folder": str(bench.folder / "gone")}, {})
    other = open_report(settings_of(), compute, 4, gone)
    other.close()
    assert other.folder.parent == bench.logs
    elsewhere = open_report(settings_of(logging_dir=bench.folder / "elsewhere"), compute, 4, state)
    elsewhere.close()
    assert elsewhere.folder.parent == bench.folder / "elsewhere"
    assert "settings/text_summary" in events_of(first.folder).Tags()["tensors"]


def test_no_prompts_no_previews(compute) -> None:
    assert make_previews([], None, None, compute) is None


@pytest.fixture
def ran(settings_of, compute, monkeypatch):
    """Runs with a loop that ends with some status, or raises it; returns what was closed."""

    def _ran(end):
        closed = []

        def loop(*_):
            assert signal.getsignal(signal.SIGTERM) is not before
            if isinstance(end, Exception):
                raise end
            return end

        before = signal.getsignal(signal.SIGTERM)
        monkeypatch.setattr(run_module, "run_training", loop)
        learner = SimpleNamespace(parameters=[], optimizer=SimpleNamespace(state={}))
        model = SimpleNamespace(result=SimpleNamespace(kind="LoRA"), learner=learner)
        events = SimpleNamespace(
            training=SimpleNamespace(compute=compute, model=model),
            report=SimpleNamespace(close=lambda: closed.append("report")),
            outputs=SimpleNamespace(
                begin=lambda: closed.append("settings"),
                final_file=Path("F"),
                settings_file="S",
                places=lambda file: [file],
            ),
        )
        dataset = SimpleNamespace(skipped={"bad.png": "no picture"}, shapes={})
        try:
            status = run(settings_of(), events, None, dataset)
        finally:
            assert signal.getsignal(signal.SIGTERM) is before
            assert closed == ["settings", "report"]
        return status

    return _ran


def test_the_end_is_told(ran, capsys) -> None:
    assert ran(0) == 0
    told = capsys.readouterr().out
    assert "The LoRA is F; its settings are in S." in told and "peak memory" in told
    assert "left out, because it cannot be read: bad.png (no picture)" in told


def test_a_stop_promises_no_file(ran, capsys) -> None:
    assert ran(143) == 143
    assert "The LoRA is" not in capsys.readouterr().out


def test_slices_are_not_asked_when_memory_is_full(ran, compute, monkeypatch) -> None:
    """That would wait for processes that do not come."""
    asked = []
    monkeypatch.setattr(run_module, "predicted_peak_gb", lambda *_: asked.append(1) or 1.0)
    monkeypatch.setattr(run_module, "advice", lambda *_: "less")
    with pytest.raises(torch.OutOfMemoryError) as plain:
        ran(torch.OutOfMemoryError("full"))
    object.__setattr__(compute, "shards", True)
    with pytest.raises(torch.OutOfMemoryError) as sliced:
        ran(torch.OutOfMemoryError("full"))
    assert plain.value.__notes__ and not hasattr(sliced.value, "__notes__") and len(asked) == 1


def test_signals_are_given_back_after_a_failure(ran) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        ran(torch.OutOfMemoryError("full"))
