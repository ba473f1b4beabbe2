"""How often tags occur, and which occur together; as text and as JSON."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from itertools import chain, combinations
from typing import TypeVar

from library.errors import InputError
from library.lookup import nearest
from library.prepare.tags import split_tags

Pair = tuple[str, str]
Name = TypeVar("Name", str, Pair)  # what is counted


def tags_of(text: str | None, separator: str = ",") -> frozenset[str]:
    """The tags in all lines of a caption."""
    lines = (text or "").splitlines()
    return frozenset(chain.from_iterable(split_tags(line, separator) for line in lines))


def count_tags(captions: Iterable[Collection[str]]) -> Counter[str]:
    """In how many captions each tag is."""
    return Counter(chain.from_iterable(set(tags) for tags in captions))


def count_pairs(captions: Iterable[Collection[str]]) -> Counter[Pair]:
    """In how many captions each two tags are together; the pair's tags are in the order of the alphabet."""
    return Counter(chain.from_iterable(combinations(sorted(set(tags)), 2) for tags in captions))


def count_beside(captions: Sequence[Collection[str]], tag: str) -> Counter[str]:
    """In how many of the captions with `tag` each other tag is; raises InputError where none has it."""
    having = [set(tags) - {tag} for tags in captions if tag in tags]
    if not having:
        known = nearest(tag, count_tags(captions))
        hint = f"; did you mean '{known}'?" if known else "."
        raise InputError(f"no caption has the tag '{tag}'{hint}")
    return count_tags(having)


def ranked(counts: Counter[Name], top: int = 0) -> list[tuple[Name, int]]:
    """The most frequent first, equals by the alphabet; only the first `top` if that is not 0."""
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    return rows[:top] if top else rows


def table_lines(title: str, rows: Sequence[tuple[str | Pair, int]], whole: int) -> list[str]:
    """A table of counts, their parts of `whole` in per cent, and names, with a heading."""
    width = max([len("count"), *(len(str(count)) for _, count in rows)])
    lines = [f"{count:>{width}}  {_part(count, whole):6.1%}  {_shown(name)}" for name, count in rows]
    return [f"{'count':>{width}}    part  {title}", *lines]


def table_json(what: str, rows: Sequence[tuple[str | Pair, int]], whole: int) -> list[dict[str, object]]:
    """The same as a list of objects; `what` is the name's key, and `part` is between 0 and 1."""
    return [{what: name, "count": count, "part": round(_part(count, whole), 4)} for name, count in rows]


def _shown(name: str | Pair) -> str:
    return name if isinstance(name, str) else " + ".join(name)


def _part(count: int, whole: int) -> float:
    return count / whole if whole else 0.0
