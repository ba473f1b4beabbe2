"""Captions and tags from one file of metadata for all pictures, as sd-scripts' fine-tuning has them."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from library.documents import parse_json
from library.errors import InputError
from library.files import is_endless
from library.log import warn


def read_metadata(file: Path, folder: Path, endings: Sequence[str], separator: str) -> dict[Path, list[str]]:
    """The pictures that a file names, in its order, with the lines of their captions; the tags are on every line.

    A .jsonl file has one `{"image_path": ..., "caption": ..., "tags": ...}` on each line, any other is a JSON table
    `{picture: {"caption": ..., "tags": ...}}`. Sizes and whatever else it says are not used: the pictures themselves
    are asked.

    Args:
        file: the metadata
        folder: where names begin that are no whole paths
        endings: those of picture files, of which one is added to names that have none, such as ".png"
        separator: stands between caption and tags

    Raises InputError with a sentence for each mistake, and one that names every picture that is not there.
    """
    pictures: dict[Path, list[str]] = {}
    complaints: list[str] = []
    missing: list[str] = []
    twice: list[str] = []
    for place, raw in _entries(file):
        try:
            key, entry = _entry(raw)
            lines = _lines(entry, separator)
        except ValueError as error:
            complaints.append(f"{place}: {error}")
            continue
        path = _find(folder, key, endings)
        if path is None:
            missing.append(key)
        else:
            twice += [key] if path in pictures else []
            pictures[path] = lines
    if twice:
        warn(
            f"{file} names pictures twice, of which the last caption counts: {', '.join(twice)}. "
            "Several captions of a picture are written as the lines of one."
        )
    if missing:
        names = ", ".join(missing)
        complaints.append(
            f"{file} names {len(missing)} pictures that are not in {folder}: {names}. "
            "Give their folder as image_dir (train_data_dir beside in_json), or take them out of the file."
        )
    if not complaints and not pictures:
        complaints.append(f"{file} names no pictures.")
    if complaints:
        raise InputError.of(complaints)
    return pictures


def _entries(file: Path) -> Iterator[tuple[str, Any]]:
    """(place in the file, what stands there) for each picture: a line, or a name and what is said of it."""
    if is_endless(file):
        raise InputError(f"the metadata {file} cannot be read: it is a pipe or a device.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the metadata {file} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"the metadata {file} cannot be read: {error.strerror}.") from error
    if file.suffix.lower() == ".jsonl":
        # Not splitlines: a caption may hold the rarer ends of lines, which JSON lets stand.
        lines = enumerate(text.split("\n"), 1)
        yield from ((f"{file}, line {number}", line) for number, line in lines if line.strip())
        return
    try:
        table = parse_json(text)
    except ValueError as error:
        raise InputError(f"{file} is not valid JSON: {error}.") from error
    if not isinstance(table, dict):
        raise InputError(f"{file} must hold one table of pictures, not {type(table).__name__}.")
    yield from ((f"{file}, '{key}'", (key, entry)) for key, entry in table.items())


def _entry(raw: Any) -> tuple[str, dict[str, Any]]:
    """A picture's name and what is said of it, from what `_entries` gives. Raises ValueError for anything else."""
    is_line = isinstance(raw, str)
    try:
        key, entry = ("", parse_json(raw)) if is_line else raw
    except ValueError as error:
        raise ValueError(f"this is not valid JSON: {error}.") from error
    if not isinstance(entry, dict):
        raise ValueError(f'write {{"caption": "..."}} or {{"tags": "..."}}, not {entry!r}.')
    if is_line:
        key = entry.get("image_path")
        if not isinstance(key, str) or not key:
            raise ValueError("image_path is missing; it names the picture.")
    return key, entry


def _find(folder: Path, key: str, endings: Sequence[str]) -> Path | None:
    """The file of that name, or with one of the endings; older metadata have names without."""
    both = [cased for ending in endings for cased in (ending, ending.upper())]
    # os.path knows that a name which is too long for a file is none; pathlib raises an error.
    names = (str(folder / key) + ending for ending in ["", *both]) if key else ()
    return next((Path(name) for name in names if os.path.isfile(name)), None)


def _lines(entry: dict[str, Any], separator: str) -> list[str]:
    """Each line of the caption with the tags behind it; the tags alone where there is no caption.

    Raises ValueError for what is no text.
    """
    caption, tags = (_text(entry, key, separator) for key in ("caption", "tags"))
    tags = separator.join(part.strip() for part in tags.splitlines() if part.strip())
    lines = [line.strip() for line in caption.splitlines() if line.strip()] or [""]
    both = [separator.join(part for part in (line, tags) if part) for line in lines]
    return [line for line in both if line]


def _text(entry: dict[str, Any], key: str, separator: str) -> str:
    """A caption or tags; a list of tags is one text too."""
    value = entry.get(key)
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return separator.join(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be text, not {value!r}.")
    text: str = value or ""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key} is no whole text, for a character in it is cut in two: {text!r}.") from None
    return text
