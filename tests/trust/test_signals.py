"""SIGINT and SIGTERM, once and twice, to one process and to its group, with processes that read ahead and without."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pytest

from library.train.state import load_state, own_states
from library.weights import load_tensors
from tests.runs import ROOT, Bench, assert_same
from tests.trust.processes import PATIENCE, start, status_of, wait_until

RUN: dict[str, Any] = {
    "max_train_steps": 8,
    "network_train_text_encoder_only": True,
    "save_every_n_steps": 2,
    "save_state": True,
    "lr_scheduler": "cosine",
}
ENDLESS = RUN | {"max_train_steps": 3000, "save_every_n_steps": 1, "save_last_n_steps": 1}
READERS = {"cache_latents": False, "max_data_loader_n_workers": 2}


@pytest.fixture
def started() -> Iterator[list[BaseProcess]]:
    """Processes that are ended when a test is."""
    processes: list[BaseProcess] = []
    yield processes
    for process in processes:
        for child in psutil.Process(process.pid).children(recursive=True) if process.is_alive() else ():
            child.kill()
        process.kill()


def begin(bench: Bench, started: list[BaseProcess], **settings: Any) -> BaseProcess:
    """Starts a run that is alone in its process group, and waits for its first state."""
    process = start(bench.argv(**settings), bench.folder / "log", is_alone=True)
    started.append(process)
    wait_until(lambda: any(own_states(bench.output, "toy")), process)
    return process


def told(bench: Bench) -> str:
    """What the run said."""
    return (bench.folder / "log").read_text()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_leaves_what_loads_and_goes_on(bench: Bench, started, number: int, status: int) -> None:
    process = begin(bench, started, **RUN)
    os.kill(process.pid, number)
    assert status_of(process) == status
    assert "stopped after step" in told(bench) and "Traceback" not in told(bench)
    newest = next(own_states(bench.output, "toy"))
    tensors = load_tensors(newest.with_name(f"{newest.name.removesuffix('-state')}.safetensors"))
    assert tensors and all(tensor.isfinite().all() for tensor in tensors.values())
    assert_same(bench.train(**RUN, resume="auto"), bench.at("unbroken").train(**RUN))


def test_a_second_signal_ends_at_once_and_harms_nothing(bench: Bench, started) -> None:
    """While the first one's save is on its way."""
    process = begin(bench, started, **ENDLESS)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    asked = time.monotonic()
    assert status_of(process) in (-signal.SIGTERM, 130)  # unless it was faster
    assert time.monotonic() - asked < 10
    assert_whole(bench)


def assert_whole(bench: Bench) -> None:
    """Every state and every file in the output folder is one, and there is one of each."""
    states, files = list(own_states(bench.output, "toy")), list(bench.output.glob("toy*.safetensors"))
    assert states and files
    for state in states:
        assert load_state(state, {}).weights
    for file in files:
        assert load_tensors(file)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_spares_the_readers(bench: Bench, started, number: int) -> None:
    """As Ctrl+C in a terminal and `timeout` do; readers that died of it would end the run before it saves."""
    process = begin(bench, started, **ENDLESS, **READERS)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    assert status_of(process) == 128 + number, told(bench)[-2000:]
    assert "stopped after step" in told(bench) and "Traceback" not in told(bench)
    assert_whole(bench)
    assert not [each for each in psutil.wait_procs(family, timeout=60)[1] if each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.long
@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGKILL]])
def test_readers_are_gone_afterwards(bench: Bench, started, numbers: list[int]) -> None:
    process = begin(bench, started, **ENDLESS, **READERS)
    parent, family = psutil.Process(process.pid), []
    wait_until(lambda: family.extend(set(parent.children(recursive=True)) - set(family)) or len(family) >= 2, process)
    for number in numbers:
        os.kill(process.pid, number)
        time.sleep(0.02)
    status_of(process)
    assert_whole(bench)
    alive = psutil.wait_procs(family, timeout=60)[1]
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_behind_a_launcher_both_processes_save_and_end(bench: Bench, number: int) -> None:
    """To all of them at once, as a terminal does; the launcher then passes it on once more."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [*launcher, "--main_process_port", "0", str(ROOT / "train_network.py"), *bench.argv(**ENDLESS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    bench.folder.mkdir(parents=True, exist_ok=True)
    with open(bench.folder / "log", "w") as log, subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
    ) as process:
        try:
            end = time.monotonic() + PATIENCE
            while not any(own_states(bench.output, "toy")) and process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            family = psutil.Process(process.pid).children(recursive=True)
            os.killpg(process.pid, number)
            process.wait(timeout=PATIENCE)
        finally:
            process.kill()
    assert "stopped after step" in told(bench), told(bench)[-2000:]
    assert_whole(bench)
    assert not psutil.wait_procs(family, timeout=60)[1]
    (step,) = {path.name for path in bench.output.glob("toy-step*-state")} - {state_before(bench)}
    assert f"{step} to resume from" in told(bench).split("stopped after step")[1]


def state_before(bench: Bench) -> str:
    """The state that was there before the signal, if it still is."""
    before = told(bench).split("stopped after step")[0]
    found = [path.name for path in bench.output.glob("toy-step*-state") if f"{path.name} to resume" in before]
    return min(found) if len(found) > 1 else ""


def test_nothing_outlives_a_refusal(bench: Bench, tmp_path: Path) -> None:
    """Threads and processes that a run started before it was refused would keep it from ending."""
    (tmp_path / "nothing").mkdir()
    process = start(bench.argv(resume=tmp_path / "nothing"), tmp_path / "log")
    assert status_of(process) == 2
    assert "is no state folder" in (tmp_path / "log").read_text()
