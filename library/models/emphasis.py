"""Weighted captions: `(word:1.3)`, `(word)` and `[word]` in the grammar of AUTOMATIC1111's web UI."""

import re

import torch
from torch import Tensor

DEEPEST = 50  # brackets of one kind within each other; further ones are plain
HEAVIEST = 1000.0  # larger weights leave no number in half precision
STEP = 1.1  # what one pair of round brackets multiplies by, and one of square brackets divides by

PIECES = re.compile(
    r"""
    \\(?P<plain>[()\[\]\\])                                             # an escaped bracket or backslash
    | :\s*(?P<weight>[+-]?(?:\d+\.?\d*|\.\d+))\s*\)                     # the weight that ends a round bracket
    | (?P<bracket>[()\[\]])
    | (?P<text>[^\\()\[\]:]+ | [\\:])
    """,
    re.VERBOSE,
)
BREAK = re.compile(r"\s*\bBREAK\b\s*")
Segment = tuple[str, float]


def parse_weights(caption: str) -> list[Segment]:
    """The pieces of a caption with their weights, neighbours of the same weight as one; none for an empty caption.

    `(a)` weighs 1.1, `((a))` 1.21, `(a:1.3)` 1.3, `[a]` 1 / 1.1; brackets inside brackets multiply. `\\(`, `\\)`,
    `\\[`, `\\]` and `\\\\` are plain. A bracket that is never closed reaches to the end, as in the web UI.
    """
    segments: list[Segment] = []
    rounds: list[int] = []
    squares: list[int] = []
    for piece in PIECES.finditer(caption):
        mark = piece["bracket"]
        open_ones = rounds if mark == "(" else squares
        if mark and mark in "([" and len(open_ones) < DEEPEST:
            open_ones.append(len(segments))
        elif (mark == ")" or piece["weight"]) and rounds:
            _multiply(segments, rounds.pop(), _limited(float(piece["weight"] or STEP)))
        elif mark == "]" and squares:
            _multiply(segments, squares.pop(), 1 / STEP)
        else:
            segments.append((piece["plain"] or piece[0], 1.0))
    for start in rounds:
        _multiply(segments, start, STEP)
    for start in squares:
        _multiply(segments, start, 1 / STEP)
    return _merged(segments)


def parse_sections(prompt: str) -> list[list[Segment]]:
    """The pieces between the words BREAK of a prompt, at each of which the text encoder begins a new window."""
    sections: list[list[Segment]] = [[]]
    for text, weight in parse_weights(prompt):
        first, *others = BREAK.split(text)
        sections[-1].append((first, weight))
        sections += [[(other, weight)] for other in others]
    kept = [[piece for piece in section if piece[0]] for section in sections]
    return kept if kept[-1] or len(kept) == 1 else kept[:-1]


def emphasise(states: Tensor, weights: Tensor) -> Tensor:
    """Hidden states (chunks, tokens, width) times the weights of their tokens, (chunks, tokens).

    Each chunk is then brought back to the mean that it had, as the web UI does it. A chunk whose weights are all 1
    is returned as it is, bit by bit.
    """
    weights = weights.to(states.device)
    plain = states.float()
    weighted = plain * weights[..., None]
    marked = (weights != 1).any(1)
    # The mean of an unmarked chunk may be 0, and is divided by nowhere.
    mean = torch.where(marked, weighted.mean((1, 2)), 1.0)
    restored = weighted * (plain.mean((1, 2)) / mean)[:, None, None]
    return torch.where(marked[:, None, None], restored, plain).to(states.dtype)


def _limited(weight: float) -> float:
    return max(-HEAVIEST, min(HEAVIEST, weight))


def _multiply(segments: list[Segment], start: int, factor: float) -> None:
    """Weighs everything from `start` on by one more factor."""
    segments[start:] = [(text, weight * factor) for text, weight in segments[start:]]


def _merged(segments: list[Segment]) -> list[Segment]:
    """Neighbours of the same weight as one piece, so that words are not torn where nothing weighs them."""
    merged: list[Segment] = []
    for text, product in segments:
        weight = _limited(product)
        if merged and merged[-1][1] == weight:
            merged[-1] = (merged[-1][0] + text, weight)
        else:
            merged.append((text, weight))
    return merged
