"""The blocks of a model by short names (te, in4, mid, out8), and weights for them. Imports nothing heavy."""

import re
from collections.abc import Callable, Mapping

from library.errors import InputError

TEXT = re.compile(r"lora_(te\d?)_")
ORIGINAL = re.compile(r"lora_unet_(input|output)_blocks_(\d+)_")
NUMBERED = re.compile(r"lora_unet_(down|up)_blocks_(\d)_(resnets|attentions|downsamplers|upsamplers)_(\d)_")
MIDDLE = re.compile(r"lora_unet_mid(dle)?_block_")
REST = "rest"  # what is in no block: the UNet's first and last convolution, and what it is told of time and sizes
NAME = re.compile(r"te[12]?|mid|rest|in(?:[1-9]|1[01])?|out(?:[0-9]|1[01])?")
PER_BLOCK = 3  # layers of one block between two changes of resolution
ALLOWED = "te, te1, te2, in, in1 to in11, mid, out, out0 to out11 or rest"


def block_of(stem: str) -> str:
    """The block of a layer by its stem in a file; those of the UNet are numbered as in the original layout."""
    if found := TEXT.match(stem):
        return found[1]
    if MIDDLE.match(stem):
        return "mid"
    if found := ORIGINAL.match(stem):
        if found[1] == "input" and found[2] == "0":
            return REST
        return f"{'in' if found[1] == 'input' else 'out'}{int(found[2])}"
    if found := NUMBERED.match(stem):
        block, kind, layer = int(found[2]), found[3], int(found[4])
        if found[1] == "down":
            return f"in{PER_BLOCK * block + (PER_BLOCK if kind == 'downsamplers' else layer + 1)}"
        return f"out{PER_BLOCK * block + (PER_BLOCK - 1 if kind == 'upsamplers' else layer)}"
    return REST


def block_order(block: str) -> tuple[int, int]:
    """For sorting blocks as data pass through them: text encoders first."""
    word, number = re.fullmatch(r"([a-z]+)(\d*)", block).groups()  # type: ignore[union-attr]  # it always matches
    return ["te", REST, "in", "mid", "out"].index(word), int(number or 0)


def read_weights(text: str) -> dict[str, float]:
    """Weights of blocks from words such as "in=0.5,mid=1,out8=0"; InputError for what is none."""
    weights = {}
    for word in text.split(","):
        name, _, value = word.strip().partition("=")
        try:
            number = float(value)
        except ValueError:
            raise InputError(f"the block weight {word!r} is not written NAME=NUMBER, such as in=0.5.") from None
        if not NAME.fullmatch(name):
            raise InputError(f"the block {name!r} is unknown; it may be {ALLOWED}.")
        weights[name] = number
    return weights


def weigher(weights: Mapping[str, float]) -> Callable[[str], float]:
    """The weight of a layer by its stem: of its own block if named, else of all such blocks, else 1."""

    def weight_of(stem: str) -> float:
        block = block_of(stem)
        return weights.get(block, weights.get(block.rstrip("0123456789"), 1.0))

    return weight_of
