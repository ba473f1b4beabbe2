"""Programs in processes of their own, which begin at once: a server has imported everything, and forks for each.

Importing torch takes longer than a toy's whole training. A fork of the tests' own process would not do, for torch
refuses to train in the fork of a process that has trained.
"""

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from library.cli import run_program

PATIENCE = 240.0  # seconds that no run takes of a processor, whatever else the machine does
LONGEST = 1200.0  # seconds that are waited for where a process does nothing, or gets no processor
# What the programs import when they have read their settings.
IMPORTED = """
    torch.utils.tensorboard train_network train_dreambooth tests.trust.processes library.train.job
    library.train.class_pictures library.train.dry_run
"""

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(IMPORTED.split())


def start(
    argv: list[str],
    log: Path,
    program: str = "train_network",
    is_alone: bool = False,
    room: int | None = None,
    **environment: object,
) -> BaseProcess:
    """Starts a program, with what it says in `log`; one that is alone has a process group of its own.

    `room` is what it may get beyond the memory that it begins with, in bytes.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    words = {name: str(value) for name, value in environment.items()}
    process = _server.Process(target=_run, args=(argv, log, program, (is_alone, room), words))
    process.start()
    return process


def status_of(process: BaseProcess) -> int:
    """The exit status of a process when it has ended, negative for the signal that ended it."""
    end, limit = time.monotonic() + LONGEST, _used(process) + PATIENCE
    while process.exitcode is None:
        assert time.monotonic() < end and _used(process) < limit, "it does not end"
        process.join(1)
    return process.exitcode


def wait_until(happened: Callable[[], object], process: BaseProcess) -> None:
    """Until something is true; a process that ends before that is a failure."""
    end, limit = time.monotonic() + LONGEST, _used(process) + PATIENCE
    while not happened():
        assert process.exitcode is None, f"it ended with {process.exitcode}"
        assert time.monotonic() < end and _used(process) < limit, "it does not come to that"
        time.sleep(0.01)


def _used(process: BaseProcess) -> float:
    """Seconds of a processor that a process has used: where others want it too, the clock tells nothing of it."""
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _run(argv: list[str], log: Path, program: str, kept: tuple[bool, int | None], environment: dict[str, str]) -> None:
    """What the process does; `kept` says whether it is alone, and in how much memory."""
    is_alone, room = kept
    # Readers are to be children of the run as they are behind a shell, and not of another such server.
    multiprocessing.set_start_method(None, force=True)
    if is_alone:
        os.setpgid(0, 0)
    os.environ.update(environment)
    if room is not None:
        limit = psutil.Process().memory_info().vms + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    out = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = os.fdopen(out, "w", buffering=1)
    run_program(lambda: sys.modules[program].main(argv))
