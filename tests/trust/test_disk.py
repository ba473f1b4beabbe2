"""A disk that is full, or will be: found before training, and survived in the middle of a save."""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from library import weights
from library.train import state as state_module
from library.train.report import Report
from library.train.state import load_state, own_states
from library.weights import load_tensors
from tests.runs import Bench, assert_same, listing, run_to_the_end

RUN: dict[str, Any] = {"max_train_steps": 4, "save_every_n_steps": 1, "save_state": True, "train_batch_size": 1}
BLOCK = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of some bytes, in memory; who may not do that skips the test."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this user may mount no disks")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True, check=False)


def at(bench: Bench, disk: Path) -> dict[str, Any]:
    """Settings of a run that writes its files there."""
    return {**RUN, "output_dir": disk / "output"}


@pytest.mark.parametrize("name", ["output_dir", "cache_dir"])
def test_too_small_a_disk_is_found_before_training(bench: Bench, small_disk, name: str, capsys) -> None:
    disk = small_disk(64 * BLOCK)
    settings = {**RUN, name: disk / "folder", "resolution": 512, "network_dim": 64}
    assert run_to_the_end(bench.argv(**settings)) == 2
    told = capsys.readouterr()
    assert f"error: {name}: this run takes up to" in told.err and "are free in" in told.err
    assert not list(disk.rglob("*.safetensors")) and not bench.output.exists() and not bench.logs.exists()


def test_a_dry_run_predicts_the_room(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_to_the_end(bench.argv(**RUN, dry_run=True)) == 0
    assert "predicted room for files and states: " in capsys.readouterr().out


# What is left on the disk when the second save begins, in files of the first save: its result, its state's weights.
LEFT = {"the result": (0.5, 0.0), "the state's weights": (1.0, 0.5), "the optimizer's state": (1.0, 1.5)}


@pytest.mark.parametrize("what", LEFT)
def test_a_disk_that_fills_up(bench: Bench, small_disk, monkeypatch, capsys, what: str) -> None:
    """The save that does not fit fails; what was saved before is whole; with room again the run ends as it should."""
    unbroken = bench.at("unbroken").train(**RUN)
    disk = small_disk(64 << 20)
    settings, step = at(bench, disk), Report.step

    def fill(self: Report, number: int, *rest: object) -> None:
        step(self, number, *rest)
        if number == 2:
            result, state = LEFT[what]
            size = (disk / "output" / "toy-step00000001.safetensors").stat().st_size
            weights_size = (disk / "output" / "toy-step00000001-state" / "weights.safetensors").stat().st_size
            left = int(result * size + state * weights_size) + 2 * BLOCK
            (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free - left))

    with monkeypatch.context() as patch:
        patch.setattr(Report, "step", fill)
        assert run_to_the_end(bench.argv(**settings)) == 1
    assert_told_and_whole(capsys.readouterr().err, disk / "output")
    (disk / "filler").unlink()
    assert run_to_the_end(bench.argv(**settings, resume="auto")) == 0
    assert_same(load_tensors(disk / "output" / "toy.safetensors"), unbroken)


def assert_told_and_whole(told: str, output: Path) -> None:
    """One sentence says what happened, and the first save is there and nothing of the second."""
    told = told.replace("\n", " ")
    assert "the disk is full" in told and "Traceback" not in told and "toy-step00000002" in told
    assert f"resume = \"auto\" goes on from {output / 'toy-step00000001-state'}" in told
    assert [load_state(state, {}).progress["step"] for state in own_states(output, "toy")] == [1]
    assert load_tensors(output / "toy-step00000001.safetensors")
    assert not [name for name in os.listdir(output) if name.startswith(".")]
    for path in output.glob("*.safetensors"):
        assert load_tensors(path)


def no_space(*_: object, **__: object) -> None:
    """What Python says of a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_for_tensors(*_: object, **__: object) -> None:
    """What safetensors says of it."""
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def no_space_for_pickles(*_: object, **__: object) -> None:
    """What torch says of it."""
    raise RuntimeError("[enforce fail at inline_container.cc:743] . PytorchStreamWriter failed writing file data/1")


@pytest.mark.parametrize(
    ("module", "name", "failing"),
    [
        (weights, "save_file", no_space_for_tensors),
        (state_module, "save_file", no_space_for_tensors),
        (state_module.torch, "save", no_space_for_pickles),
        (state_module, "_flush", no_space),
    ],
)
def test_whatever_words_it_is_said_in(bench: Bench, monkeypatch, capsys, module, name: str, failing) -> None:
    """The same without a disk of its own, for every way in which a write can fail."""
    step = Report.step

    def fill(self: Report, number: int, *rest: object) -> None:
        step(self, number, *rest)
        if number == 2:
            monkeypatch.setattr(module, name, failing)

    monkeypatch.setattr(Report, "step", fill)
    assert run_to_the_end(bench.argv(**RUN)) == 1
    monkeypatch.undo()
    assert_told_and_whole(capsys.readouterr().err, bench.output)


def test_curves_on_a_full_disk_cost_only_curves(bench: Bench, small_disk, monkeypatch, capsys) -> None:
    disk, step = small_disk(1 << 20), Report.step

    def fill(self: Report, number: int, *rest: object) -> None:
        step(self, number, *rest)
        if number == 2:
            (disk / "filler").write_bytes(bytes(shutil.disk_usage(disk).free))

    monkeypatch.setattr(Report, "step", fill)
    assert run_to_the_end(bench.argv(**RUN, logging_dir=disk / "logs")) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert all(load_tensors(path) for path in bench.output.glob("*.safetensors"))
    assert (bench.output / "toy.safetensors").exists()


def test_clearing_takes_only_what_this_run_wrote(bench: Bench, tmp_path: Path) -> None:
    """Files of other runs with the same names, and a run that goes on in another folder."""
    keeping = {**RUN, "save_last_n_steps": 1, "save_every_n_epochs": 1, "save_last_n_epochs": 1, "max_train_steps": 9}
    first = bench.at("first")
    first.train(**keeping | {"max_train_steps": 6})
    second = bench.at("second")
    foreign = second.output / "toy-step00000005-state"
    shutil.copytree(first.output / foreign.name, foreign)
    for name in ("toy-step00000005.safetensors", "toy-000001.safetensors", "toy-step1.safetensors", "notes.txt"):
        (second.output / name).write_bytes(b"somebody's")
    before = listing(second.output)
    second.train(**keeping, resume=first.output / "toy-step00000005-state")
    assert {name: both for name, both in listing(second.output).items() if name in before} == before
    assert "toy-step00000006.safetensors" not in second.names() and "toy-step00000008.safetensors" in second.names()
