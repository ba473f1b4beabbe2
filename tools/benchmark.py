"""Measure training and drawing against a plain loop of PEFT, diffusers and autocast, on models of random weights.

python tools/benchmark.py --json benchmark.json           true sizes: SD 1.5 at 512, SDXL at 1024; wants a GPU
python tools/benchmark.py --small --json benchmark.json   scaled down, in a few minutes on a CPU
"""

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.log import say

SMALL_ROUNDS, ROUNDS, STEPS = 9, 5, 10
WAYS = (
    "compile",
    "selective_checkpointing",
    "channels_last",
    "cuda_graphs",
)  # settings of training that the reference has not


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, checked."""
    parser = argument_parser(
        "Measure training against a plain loop of PEFT and diffusers, and drawing against its pipeline."
    )
    parser.add_argument("--small", action="store_true", help="a UNet of SD 1.5's structure, scaled down for a CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows here")
    parser.add_argument("--only", metavar="WORDS", help="the rows with these words in their names, such as 'b1 lora'")
    rounds_help = f"medians are over so many; by default {ROUNDS}, {SMALL_ROUNDS} if small"
    parser.add_argument("--rounds", type=int, help=rounds_help)
    parser.add_argument("--steps", type=int, help=f"steps in a round; by default {STEPS}, 1 if small")
    formats = ("no", "fp16", "bf16")
    parser.add_argument("--precision", choices=formats, help="by default bf16 on a GPU, else no: float32")
    parser.add_argument("--compile", choices=("no", "regional", "full"), default="no", help="as in training")
    parser.add_argument("--selective_checkpointing", action="store_true", help="as in training")
    parser.add_argument("--channels_last", action="store_true", help="as in training")
    parser.add_argument("--cuda_graphs", action="store_true", help="as in training; for NVIDIA GPUs")
    settings = parser.parse_args(argv)
    for name in ("rounds", "steps"):
        if vars(settings)[name] is not None and vars(settings)[name] < 1:
            raise InputError(f"--{name} must be 1 or more, not {vars(settings)[name]}.")
    if settings.json and not settings.json.parent.is_dir():
        raise InputError(f"--json {settings.json}: the folder {settings.json.parent} is not there.")
    return settings


def main() -> int:
    """Returns the exit status."""
    settings = parse_arguments()
    import torch

    from library.bench.rounds import table
    from library.bench.works import measure, works_of
    from library.device import start_compute
    from library.files import write_atomically
    from library.settings import Settings
    from library.train.recorded import check_graphs

    on_gpu = torch.cuda.is_available()
    precision = settings.precision or ("bf16" if on_gpu else "no")
    works = [work for work in works_of(settings.small) if not settings.only or settings.only in work.name]
    if not works:
        names = ", ".join(work.name for work in works_of(settings.small))
        raise InputError(f"--only '{settings.only}' is in no row's name; the rows are {names}.")
    compute = start_compute(precision)
    ways = {name: vars(settings)[name] for name in WAYS}
    check_graphs(Settings(cuda_graphs=settings.cuda_graphs), compute.device)
    rounds = settings.rounds or (SMALL_ROUNDS if settings.small else ROUNDS)
    rows = []
    steps = settings.steps or (1 if settings.small else STEPS)
    for row in measure(works, compute, precision, rounds, steps, ways):
        rows.append(row)
        say(table(rows[-1:]) if len(rows) == 1 else table(rows[-1:]).splitlines()[-1])
    if settings.json:
        told = {"precision": precision, "rounds": rounds, **ways}
        content = json.dumps({**_machine(on_gpu), **told, "rows": rows}, indent=1)
        write_atomically(settings.json, lambda path: path.write_text(content + "\n", encoding="utf-8"))
    return 0


def _machine(on_gpu: bool) -> dict[str, Any]:
    """What the figures belong to."""
    import diffusers
    import peft
    import torch

    versions = {each.__name__: each.__version__ for each in (torch, diffusers, peft)}
    device = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    return {"device": device, "threads": torch.get_num_threads(), "python": platform.python_version(), **versions}


if __name__ == "__main__":
    run_program(main)
