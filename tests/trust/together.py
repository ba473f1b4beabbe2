"""Several processes of one run that talk by gloo on the CPU, as behind a launcher."""

import socket
from pathlib import Path
from typing import Any

from tests.trust.processes import start, status_of


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_together(argv: list[str], folder: Path, program: str = "train_network", count: int = 2, **words: Any) -> str:
    """Runs a program in `count` processes to its good end; returns what they said. `words` go to their environment."""
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    logs = [folder / f"log{rank}" for rank in range(count)]
    ranks = [{**common, **words, "RANK": rank, "LOCAL_RANK": rank} for rank in range(count)]
    processes = [start(argv, log, program, **own) for log, own in zip(logs, ranks, strict=True)]
    statuses = [status_of(process) for process in processes]
    told = "".join(log.read_text() for log in logs)
    assert statuses == [0] * count, f"{statuses}\n{told[-4000:]}"
    return told
