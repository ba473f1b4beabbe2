"""Ctrl+C and kill: the step is finished, everything is saved, and the run can go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from library.train.report import Report
from tests.runs import ROOT, Bench, assert_same, run_to_the_end

RUN = {
    "max_train_steps": 5,
    "network_train_text_encoder_only": True,
    "save_every_n_epochs": 1,
    "lr_scheduler": "cosine",
}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("moment", [1, 2])
def test_a_stopped_run_goes_on(bench: Bench, monkeypatch, capsys, number: int, status: int, moment: int) -> None:
    """In the middle of an epoch and at its end."""
    step = Report.step

    def then_the_signal(self: Report, finished: int, *rest: object) -> None:
        step(self, finished, *rest)
        if finished == moment:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(Report, "step", then_the_signal)
        assert run_to_the_end(bench.argv(**RUN)) == status
    assert f"stopped after step {moment} of 5" in capsys.readouterr().err
    stem = f"toy-step{moment:08d}"
    epochs = {"toy-000001.safetensors"} if moment == 2 else set()
    assert bench.names() == {f"{stem}.safetensors", f"{stem}-state", "toy.toml"} | epochs

    unbroken = bench.at("unbroken")
    assert_same(bench.train(**RUN, resume="auto"), unbroken.train(**RUN))
    assert bench.names() - {f"{stem}.safetensors", f"{stem}-state"} == unbroken.names()


def test_kill_from_outside(bench: Bench) -> None:
    argv = bench.argv(**{**RUN, "max_train_steps": 100000, "save_every_n_steps": 1, "save_last_n_steps": 1})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "train_network.py"), *argv]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_for(bench.output / "toy-step00000001.safetensors", process)
        process.send_signal(signal.SIGTERM)
        complaints = process.communicate(timeout=120)[1]
    assert process.returncode == 143
    assert "stopped after step" in complaints and "Traceback" not in complaints
    (state,) = bench.output.glob("toy-step*-state")
    assert (state / "state.json").is_file()
    assert (bench.output / f"{state.name.removesuffix('-state')}.safetensors").is_file()


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 120) -> None:
    """Until `path` is there, or the process has ended."""
    end = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert path.exists()
