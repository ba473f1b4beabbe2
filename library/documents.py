"""TOML and JSON from a person or a stranger, as plain tables; ValueError says what is wrong with a text."""

import json
import tomllib
from collections.abc import Callable
from typing import Any

DEEPEST = 20  # tables and lists within each other; no file of ours needs more than five


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text."""
    tables: dict[str, Any] = _parse(tomllib.loads, text)
    return tables


def parse_json(text: str) -> Any:
    """What a JSON text holds."""
    return _parse(json.loads, text)


def read_json(text: str | None) -> dict[str, Any]:
    """A table from a text; an empty one for anything else."""
    try:
        content = parse_json(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _parse(read: Callable[[str], Any], text: str) -> Any:
    """What `read` makes of a text, checked."""
    try:
        document = read(text)
    except RecursionError:
        raise ValueError(_too_deep()) from None
    _check(document)
    return document


def _check(document: Any) -> None:
    """Raises ValueError for what would trip readers: endless depth, and halves of characters, which JSON lets in."""
    layer = [document]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for each in layer:
            if isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str) and not is_whole(each):
                raise ValueError(f"a character in it is cut in two: {each[:40]!r}")
        layer = inner
    if any(isinstance(each, dict | list) for each in layer):
        raise ValueError(_too_deep())


def is_whole(text: str) -> bool:
    """Whether a text can be written as UTF-8; names of files from other systems, and halves of characters, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep() -> str:
    return f"tables and lists stand deeper in each other than {DEEPEST} levels"
