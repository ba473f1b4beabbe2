"""Wildcards: `{red|blue} hat`, of which each showing of a picture has one or the other."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

PIECES = re.compile(r"\{\{|\}\}|[{}|]")
COUNT = re.compile(r"\s*(\d{1,4})\$\$")
DEEPEST = 50  # choices within each other; further braces are plain


class Choice(NamedTuple):
    """A pair of braces: `taken` of its options are taken, each of which may hold choices too."""

    options: list["Parts"]
    taken: int = 1


Parts = list[str | Choice]


@dataclass
class _Open:
    """A brace that is not closed yet: its options so far, and the literal braces that are open in the last one."""

    options: list[Parts] = field(default_factory=lambda: [[]])
    literal: int = 0


def parse(text: str) -> Parts:
    """The plain pieces and the choices of a text.

    `{a|b}` is a choice, `{2$$a|b|c}` one of two options, and `{{` and `}}` are plain braces. A choice may stand
    inside an option, so that `}}` closes two of them where two are open. A brace without its other half is plain.
    """
    stack = [_Open()]
    end = 0
    for match in PIECES.finditer(text):
        stack[-1].options[-1].append(text[end : match.start()])
        end = match.end()
        _take(match[0], stack)
    stack[-1].options[-1].append(text[end:])
    while len(stack) > 1:
        unclosed = stack.pop()
        stack[-1].options[-1] += ["{", *_as_written(unclosed.options)]
    return stack[0].options[0]


def choose(text: str, random: Random, joint: str) -> str:
    """The text with every choice made by `random`; several options of one choice are joined with `joint`."""

    def draw(choice: Choice) -> list[str]:
        chosen = random.sample(choice.options, min(choice.taken, len(choice.options)))
        return [_written(option, draw, joint) for option in chosen]

    return _written(parse(text), draw, joint)


def longest(text: str, joint: str) -> str:
    """The text with the longest options, in characters, to know how long it can get."""

    def measure(choice: Choice) -> list[str]:
        options = [_written(option, measure, joint) for option in choice.options]
        return sorted(options, key=len, reverse=True)[: choice.taken]

    return _written(parse(text), measure, joint)


def _take(mark: str, stack: list[_Open]) -> None:
    """Goes on with one mark: braces, or the bar between options."""
    inner = stack[-1]
    if mark == "}}" and len(stack) > 2 and not inner.literal:
        _close(stack)
        _close(stack)
    elif mark in ("{{", "}}"):
        inner.literal = max(0, inner.literal + (1 if mark == "{{" else -1))
        inner.options[-1].append(mark[0])
    elif mark == "{" and len(stack) <= DEEPEST:
        stack.append(_Open())
    elif mark == "}" and len(stack) > 1:
        _close(stack)
    elif mark == "|" and len(stack) > 1:
        inner.options.append([])
        inner.literal = 0
    else:
        inner.options[-1].append(mark)


def _close(stack: list[_Open]) -> None:
    """The innermost choice is complete; one without any words in it is plain braces."""
    options = stack.pop().options
    if options == [[""]]:
        stack[-1].options[-1].append("{}")
        return
    first, count = options[0][0], 1
    assert isinstance(first, str)  # every option begins with the text in front of its first mark
    if match := COUNT.match(first):
        count, options[0][0] = int(match[1]), first[match.end() :]
    stack[-1].options[-1].append(Choice(options, count))


def _as_written(options: list[Parts]) -> Parts:
    """The options of a choice that was never closed, as the plain text that they are."""
    parts: Parts = []
    for number, option in enumerate(options):
        parts += ["|", *option] if number else option
    return parts


def _written(parts: Parts, decide: Callable[[Choice], list[str]], joint: str) -> str:
    return "".join(part if isinstance(part, str) else joint.join(decide(part)) for part in parts)
