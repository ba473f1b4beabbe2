"""Runs of train_network.py that are killed, and what must not be seen of that afterwards."""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIGKILL
from typing import Any

from library.weights import read_header
from tests.runs import Bench, assert_same
from tests.trust.processes import start, status_of

UNFINISHED = (".part", ".partial")  # endings of what is being written
BEFORE_A_SAVE = 60.0  # seconds in which a save is waited for
SPEED = "speed/", "memory/"  # curves that tell of the machine


@dataclass
class Kills:
    """What a campaign did: kills at any moment, those in which files were half written, and attempts that were late."""

    anywhere: int = 0
    inside_a_save: int = 0
    too_late: int = 0
    runs: int = 0
    starts: list[int] = field(default_factory=list)  # of each run, until it came to its end

    @property
    def all(self) -> int:
        """All kills."""
        return self.anywhere + self.inside_a_save


def half_written(folder: Path) -> list[str]:
    """What is being written in a folder, or was when its writer died."""
    with suppress(FileNotFoundError):
        return [each.name for each in os.scandir(folder) if each.name.endswith(UNFINISHED)]
    return []


def kill_after(process: BaseProcess, seconds: float) -> int:
    """Kills a process after a while; returns its exit status, which is -9 if it was alive until then."""
    process.join(seconds)
    process.kill()
    return status_of(process)


def kill_in_a_save(process: BaseProcess, folder: Path, delay: float, skip: int) -> int:
    """Kills a process while it writes: `delay` seconds after it began its write number `skip`, counted from 0."""
    end, seen, before = time.monotonic() + BEFORE_A_SAVE, -1, set(half_written(folder))
    while seen < skip and time.monotonic() < end and process.exitcode is None:
        now = set(half_written(folder))
        seen += bool(now - before)
        before = now
        time.sleep(0.0002)
    time.sleep(delay)
    process.kill()
    return status_of(process)


def run_through_kills(
    bench: Bench, settings: dict[str, Any], chance: random.Random, at_most: int, told: Kills
) -> None:
    """Starts a run again and again with resume = "auto" until it comes to its end; kills it up to `at_most` times."""
    argv, log = bench.argv(**settings, resume="auto"), bench.folder / "log"
    starts = 0
    for number in range(10 * at_most + 1):
        before, starts = set(half_written(bench.output)), starts + 1
        process = start(argv, log)
        if number >= at_most:
            status = status_of(process)
        elif chance.random() < 0.5:
            status = kill_in_a_save(process, bench.output, 0.004 * chance.random(), skip=chance.randrange(4))
        else:
            status = kill_after(process, chance.uniform(0.5, 5.0))
        if status == -SIGKILL:
            inside = set(half_written(bench.output)) - before
            told.inside_a_save += bool(inside)
            told.anywhere += not inside
        elif status == 0 or (status == 2 and f"at step {settings['max_train_steps']} already" in log.read_text()):
            told.too_late += number < at_most
            break
        else:
            raise AssertionError(f"status {status}:\n{log.read_text()[-3000:]}")
    told.runs += 1
    told.starts.append(starts)


def campaign(
    bench: Bench, unbroken: Bench, settings: dict[str, Any], seed: int, wanted: Callable[[Kills], bool], at_most: int
) -> Iterator[Kills]:
    """Runs that are killed and resumed until `wanted`; each is compared with the unbroken one."""
    chance, told = random.Random(seed), Kills()
    while not wanted(told):
        again = bench.at(f"run{told.runs}")
        run_through_kills(again, settings, chance, at_most, told)
        assert_nothing_shows(again, unbroken)
        yield told


def assert_nothing_shows(again: Bench, unbroken: Bench) -> None:
    """The same tensors and hash bit for bit, the same files, and the same curves with each point once."""
    assert_same(again.tensors(), unbroken.tensors())
    assert again.metadata()["sshs_model_hash"] == unbroken.metadata()["sshs_model_hash"]
    assert again.names() == unbroken.names()
    for name in sorted(again.names()):
        if name.endswith(".safetensors"):
            mine, theirs = (read_header(each.output / name)[0]["sshs_model_hash"] for each in (again, unbroken))
            assert mine == theirs, name
    mine, theirs = last_curves(again), last_curves(unbroken)
    assert mine == theirs, [tag for tag in theirs if mine.get(tag) != theirs[tag]]


def last_curves(bench: Bench) -> dict[str, list[tuple[int, float]]]:
    """The curves of the attempt that came to the end; those killed before their first state leave others."""
    folders = sorted(bench.logs.iterdir(), key=lambda folder: (folder.stat().st_mtime, folder.name))
    alone = Bench(bench.model, bench.pictures, bench.folder / "curves", bench.cache)
    alone.logs.mkdir(parents=True, exist_ok=True)
    (alone.logs / "last").unlink(missing_ok=True)
    (alone.logs / "last").symlink_to(folders[-1].resolve())
    curves = alone.scalars()
    return {tag: points for tag, points in curves.items() if not tag.startswith(SPEED)}
