"""Words that change while a picture is drawn: `[from:to:0.5]` and `[a|b]`, as in AUTOMATIC1111's web UI. Light."""

import re
from dataclasses import dataclass

DEEPEST = 50  # brackets within each other; further ones are plain
MARKS = re.compile(r"\\.|[\[\]():|]", re.DOTALL)
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")


@dataclass(frozen=True)
class Swap:
    """`before` until a step, and `after` from then on. `when` is a number as written."""

    before: "Nodes"
    after: "Nodes"
    when: str

    def last(self, steps: int) -> int:
        """The last of the steps, counted from 1, that has `before`.

        A number with a point, up to 1, is a share of all steps; any other a step.
        """
        number = float(self.when)
        is_share = number < 1 or number == 1 and "." in self.when
        return min(steps, int(number * steps if is_share else number))


@dataclass(frozen=True)
class Turn:
    """The options by turns, another at each step."""

    options: tuple["Nodes", ...]


Nodes = tuple[str | Swap | Turn, ...]


def at_steps(text: str, steps: int) -> list[str]:
    """What a prompt says at each step.

    `[from:to:0.5]` changes after half of the steps, `[to:0.5]` and `[from::0.5]` add and leave out, `[from:to:7]`
    changes after the seventh, and `[a|b|c]` takes turns; all of them may be within each other and within brackets that
    weigh. What is none of these stays as it is written, a bracket that is never closed too.
    """
    nodes = parse_edits(text)
    if all(isinstance(node, str) for node in nodes):
        return [text] * steps
    return [_said(nodes, step, steps) for step in range(1, steps + 1)]


def parse_edits(text: str) -> Nodes:
    """The pieces of a prompt: plain texts, and what changes."""
    return _parse(text, 0, len(text), _pairs(text))


def _pairs(text: str) -> dict[int, int]:
    """The places of brackets that are closed -> those of what closes them."""
    pairs, stack = {}, list[int]()
    for found in MARKS.finditer(text):
        mark, place = found[0], found.start()
        if mark in "([":
            stack.append(place)
        elif mark in ")]" and stack and text[stack[-1]] + mark in ("()", "[]"):
            start = stack.pop()
            if len(stack) < DEEPEST:
                pairs[start] = place
    return pairs


def _parse(text: str, start: int, end: int, pairs: dict[int, int]) -> Nodes:
    nodes: list[str | Swap | Turn] = []
    place = written = start
    while found := MARKS.search(text, place, end):
        place = found.end()
        if found[0] != "[" or found.start() not in pairs:
            continue
        close = pairs[found.start()]
        change = _change(text, found.end(), close, pairs)
        if change is not None:
            nodes += [text[written : found.start()], change]
            place = written = close + 1
    return (*nodes, text[written:end])


def _change(text: str, start: int, end: int, pairs: dict[int, int]) -> Swap | Turn | None:
    """What a pair of square brackets asks for; None if it only weighs words."""
    cuts = _cuts(text, start, end, pairs)
    marks = {text[cut] for cut in cuts}
    edges = [start - 1, *cuts, end]
    spans = [(before + 1, after) for before, after in zip(edges, edges[1:], strict=False)]
    if marks == {"|"}:
        return Turn(tuple(_parse(text, *span, pairs) for span in spans))
    when = text[slice(*spans[-1])].strip()
    if marks != {":"} or len(spans) > 3 or not NUMBER.fullmatch(when):
        return None
    before = _parse(text, *spans[0], pairs) if len(spans) == 3 else ("",)
    return Swap(before, _parse(text, *spans[-2], pairs), when)


def _cuts(text: str, start: int, end: int, pairs: dict[int, int]) -> list[int]:
    """The places of `:` and `|` that are in no further brackets."""
    cuts, place = [], start
    while found := MARKS.search(text, place, end):
        place = pairs.get(found.start(), found.start()) + len(found[0]) if found[0] in "([" else found.end()
        if found[0] in ":|":
            cuts.append(found.start())
    return cuts


def _said(nodes: Nodes, step: int, steps: int) -> str:
    words = []
    for node in nodes:
        if isinstance(node, Swap):
            words.append(_said(node.before if step <= node.last(steps) else node.after, step, steps))
        elif isinstance(node, Turn):
            words.append(_said(node.options[(step - 1) % len(node.options)], step, steps))
        else:
            words.append(node)
    return "".join(words)
