"""Captions and tags from one file of metadata for all pictures, as sd-scripts' fine-tuning has them."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from library.errors import InputError


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
    for place, key, entry in _entries(file):
        path = _find(folder, key, endings)
        if path is None:
            missing.append(key)
            continue
        try:
            pictures[path] = _lines(entry, separator)
        except ValueError as error:
            complaints.append(f"{place}: {error}")
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


def _entries(file: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(place in the file, picture, what is said of it) for each picture."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the metadata {file} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"the metadata {file} cannot be read: {error.strerror}.") from error
    if file.suffix.lower() == ".jsonl":
        yield from _entries_of_lines(file, text)
        return
    table = _parse(text, str(file))
    if not isinstance(table, dict):
        raise InputError(f"{file} must hold one table of pictures, not {type(table).__name__}.")
    for key, entry in table.items():
        yield f"{file}, '{key}'", key, _checked(entry, f"{file}, '{key}'")


def _entries_of_lines(file: Path, text: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    # Not splitlines: a caption may hold the rarer ends of lines, which JSON lets stand.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            place = f"{file}, line {number}"
            entry = _checked(_parse(line, place), place)
            if not isinstance(entry.get("image_path"), str) or not entry["image_path"]:
                raise InputError(f"{place}: image_path is missing; it names the picture.")
            yield place, entry["image_path"], entry


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{place} is not valid JSON: {error}.") from error


def _checked(entry: Any, place: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise InputError(f'{place}: write {{"caption": "..."}} or {{"tags": "..."}}, not {entry!r}.')
    return entry


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
