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


def read_lora(text: str, option: str, wrong: list[str]) -> Given | None:
    """File, ratio and block weights from FILE, FILE:RATIO or FILE:RATIO:BLOCKS; mistakes go into `wrong`.

    A colon inside the name of an existing file is left there. `option` is what the words were given for.
    """
    name, words = text, ["1", ""]
    for count in (0, 1, 2):
        pieces = text.rsplit(":", count)
        if len(pieces) == count + 1 and Path(pieces[0]).is_file():
            name, words = pieces[0], [*pieces[1:], *["1", ""][count:]]
            break
    try:
        ratio = float(words[0])
        if not math.isfinite(ratio):
            raise ValueError
        return Path(name), ratio, read_weights(words[1]) if words[1] else {}
    except ValueError:
        wrong.append(f"{option} {text}: the ratio {words[0]!r} is no number.")
    except InputError as error:
        wrong += [f"{option} {text}: {sentence}" for sentence in error.sentences]
    return None
