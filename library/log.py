"""What the programs say to a person, once and not once per process."""

import logging
import os
import sys
from functools import cache

# bitsandbytes tells every user of a CPU about 4-bit kernels that nothing here uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def is_speaker() -> bool:
    """Whether this process is the one that speaks; without a launcher it always is."""
    return os.environ.get("RANK", "0") in ("", "0")


def say(*words: object) -> None:
    """A line on stdout, from the first process only."""
    if is_speaker():
        print(*words, flush=True)


@cache
def warn(sentence: str) -> None:
    """`sentence` on stderr as a warning, from the first process only and once per run."""
    if is_speaker():
        print(f"warning: {sentence}", file=sys.stderr, flush=True)
