"""Adapter files as people give them on a command line: FILE:RATIO:BLOCKS. Imports nothing heavy."""

import math
from pathlib import Path

from library.adapters.blocks import ALLOWED, read_weights
from library.errors import InputError

LORA_METAVAR = "FILE:RATIO:BLOCKS"
LORA_HELP = (
    "LoRA files, with what their change is multiplied with if not 1, and after another colon with weights of blocks: "
    f"in=0.5,mid=1,out8=0. Blocks are {ALLOWED}; those that are not named have 1"
)
Given = tuple[Path, float, dict[str, float]]


def split_file(text: str, most: int = 1) -> tuple[Path, list[str]]:
    """A file, and up to `most` words that follow it after colons.

    A colon inside the name of an existing file is left there; of a file that is not there, a number is such a word.
    """
    for count in range(most + 1):
        name, *words = text.rsplit(":", count)
        if len(words) == count and Path(name).is_file():
            return Path(name), words
    name, _, word = text.rpartition(":")
    try:
        read_number(word)
    except ValueError:
        return Path(text), []
    return (Path(name), [word]) if name else (Path(text), [])


def read_number(text: str) -> float:
    """A number that is neither infinite nor not-a-number; ValueError otherwise."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def read_lora(text: str, option: str, wrong: list[str]) -> Given | None:
    """File, ratio and block weights from FILE, FILE:RATIO or FILE:RATIO:BLOCKS; mistakes go into `wrong`.

    `option` is what the words were given for.
    """
    path, words = split_file(text, 2)
    ratio, blocks = *words, *("1", "")[len(words) :]
    try:
        return path, read_number(ratio), read_weights(blocks) if blocks else {}
    except ValueError:
        wrong.append(f"{option} {text}: the ratio {ratio!r} is no number.")
    except InputError as error:
        wrong += [f"{option} {text}: {sentence}" for sentence in error.sentences]
    return None
