"""What the programs say to a person, once and not once per process."""

import logging
import os
import sys
from functools import cache
from typing import TextIO

# bitsandbytes tells every user of a CPU about 4-bit kernels that nothing here uses.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


def is_speaker() -> bool:
    """Whether this process is the one that speaks; without a launcher it always is."""
    return os.environ.get("RANK", "0") in ("", "0")


def say(*words: object) -> None:
    """A line on stdout, from the first process only."""
    if is_speaker():
        show(" ".join(map(str, words)), sys.stdout)


@cache
def warn(sentence: str) -> None:
    """`sentence` on stderr as a warning, from the first process only and once per run."""
    if is_speaker():
        show(f"warning: {sentence}", sys.stderr)


def show(line: str, stream: TextIO) -> None:
    """A line on a stream; what it has no characters for, as in files' names from other systems, becomes a `?`."""
    encoding = stream.encoding or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
