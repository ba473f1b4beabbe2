"""Where settings are written, the command line and files: words are taken apart, not yet understood."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from library.documents import parse_json, parse_toml
from library.errors import InputError
from library.settings import compat
from library.settings.fields import FILE_OPTIONS, HINTS, RULES

# Types of settings whose value may be several words.
SEVERAL_WORDS = (tuple[int, int], tuple[float, float] | None, float | None)


@dataclass(frozen=True)
class Given:
    """A setting as it was written, and where."""

    name: str
    raw: Any
    where: str


def read_command_line(argv: list[str]) -> tuple[list[Given], list[str]]:
    """The options of a command line, and a sentence for each word that is none."""
    complaints = []
    options: list[tuple[str, list[str]]] = []
    for word in argv:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            options.append((name, [value] if equals else []))
        elif options:
            options[-1][1].append(word)
        else:
            complaints.append(f"command line: '{word}' belongs to no option; settings are written --name value.")
    given = []
    for name, words in options:
        try:
            given.append(_option(name, words))
        except ValueError as error:
            complaints.append(f"command line: {error}")
    return given, complaints


def _option(name: str, words: list[str]) -> Given:
    known = name in RULES or name in FILE_OPTIONS or name in compat.KNOWN
    hint = HINTS.get(name)
    if not known and not words and name.startswith("no_"):
        positive = name.removeprefix("no_")
        if HINTS.get(positive) is bool or positive in compat.KNOWN:
            return Given(positive, False, "command line")
    if hint == tuple[str, ...]:
        return Given(name, words if words != [""] else [], "command line")
    if not words:
        if known and name not in compat.KNOWN - {"config_file"} and hint is not bool:
            raise ValueError(f"{name} needs a value.")
        return Given(name, True, "command line")
    if len(words) > 1 and name in RULES and hint not in SEVERAL_WORDS:
        raise ValueError(f"{name} takes one value, not {len(words)}: {' '.join(words)}; put quotes around spaces.")
    return Given(name, words[0] if len(words) == 1 else words, "command line")


def read_document(path: Path) -> dict[str, Any]:
    """The tables of a TOML or JSON file. Raises InputError if there is none or it cannot be read."""
    if not os.path.isfile(path):  # which knows that a name too long for a file is none
        raise InputError(
            f"the file '{path}' does not exist; check its name, which is taken from the folder you are in."
        )
    try:
        # Editors on Windows put a mark in front that TOML does not know.
        text = path.read_text(encoding="utf-8-sig")
        document: Any = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        hint = "; write paths with / or in single quotes" if "\\" in text else ""
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise InputError(f"{path} is not valid {kind}: {error}{hint}.") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold tables, not {type(document).__name__}.")
    return document


def walk_sections(table: dict[str, Any], path: Path, section: str = "") -> Iterator[Given]:
    """Every key of a document with its section; the sections group for the reader only."""
    where = f"{path}, section [{section}]" if section else str(path)
    for key, value in table.items():
        if isinstance(value, dict):
            yield from walk_sections(value, path, f"{section}.{key}" if section else key)
        else:
            yield Given(key, value, where)
