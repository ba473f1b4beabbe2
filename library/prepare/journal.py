"""The undo journal: what captions held before an edit, on disk before the first of them is touched."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from library.errors import InputError
from library.files import write_atomically

FOLDER = ".easel-undo"  # in the folder of pictures; hidden, so that nothing takes it for a folder of pictures
VERSION = 1


@dataclass(frozen=True)
class Change:
    """One caption file: its bytes before and after; None stands for no file."""

    path: Path
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Entry:
    """One edit as the journal has it: each caption's bytes before it, and the hash of those after it."""

    path: Path
    time: str
    command: str
    captions: dict[Path, tuple[bytes | None, str]]

    def forget(self) -> None:
        """Takes the edit out of the journal, and the journal's folder away with the last one."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.parent.rmdir()


def record(folder: Path, changes: Sequence[Change], command: str) -> Path:
    """Writes an edit that is about to be made into the journal, whole or not at all.

    Raises InputError where that cannot be done, so that no edit is made that could not be undone.
    """
    captions = [
        {
            "file": change.path.relative_to(folder).as_posix(),
            "before": None if change.before is None else change.before.decode(),
            "after": _hash(change.after),
        }
        for change in changes
    ]
    time = datetime.now().isoformat(" ", "seconds")
    content = {"version": VERSION, "time": time, "command": command, "captions": captions}
    text = json.dumps(content, indent=1)
    path = folder / FOLDER / f"{max(_numbers(folder), default=0) + 1:06d}.json"
    try:
        write_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8", newline=""))
    except OSError as error:
        reason = error.strerror
        raise InputError(f"the undo journal {path} cannot be written: {reason}; nothing was edited.") from error
    return path


def last_entry(folder: Path) -> Entry:
    """The last edit of a folder that was not undone; raises InputError where there is none or it is damaged."""
    numbers = _numbers(folder)
    if not numbers:
        raise InputError(f"there is nothing to undo in {folder}; give the folder that was edited.")
    path = folder / FOLDER / f"{max(numbers):06d}.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ValueError("of another version")
        captions = {_inside(folder, each["file"]): _state(each) for each in content["captions"]}
        return Entry(path, str(content["time"]), str(content["command"]), captions)
    except OSError as error:
        raise InputError(f"the undo journal {path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        hint = "remove that file to undo the edit before it"
        raise InputError(f"the undo journal {path} is damaged or of another version; {hint}.") from error


def way_back(entry: Entry) -> tuple[list[Change], list[Path]]:
    """The changes that undo an edit, and the files among them that are not as that edit left them.

    Files that are already as they were before it, as after an edit that was cut short, need no change.
    Raises InputError where a file cannot be read.
    """
    changes, foreign = [], []
    for path, (before, after) in entry.captions.items():
        try:
            now = read_bytes(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; nothing was undone.") from error
        if now == before:
            continue
        changes.append(Change(path, now, before))
        if _hash(now) != after:
            foreign.append(path)
    return changes, foreign


def read_bytes(path: Path) -> bytes | None:
    """A file's content, or None where there is no file. Raises OSError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def make(change: Change) -> None:
    """Brings one file to the state after the change, whole or not at all; a link's target, where it is a link."""
    path = change.path.resolve() if change.path.is_symlink() else change.path
    content = change.after
    if content is None:
        path.unlink(missing_ok=True)
    else:
        write_atomically(path, lambda unfinished: unfinished.write_bytes(content))


def _numbers(folder: Path) -> list[int]:
    names = [path.stem for path in (folder / FOLDER).glob("*.json")]
    return [int(name) for name in names if name.isascii() and name.isdigit()]


def _hash(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


def _inside(folder: Path, name: str) -> Path:
    """A caption's path; ValueError where a journal from elsewhere names a file outside the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or Path(name).is_absolute():
        raise ValueError(name)
    return folder / path


def _state(caption: dict[str, str | None]) -> tuple[bytes | None, str]:
    before, after = caption["before"], caption["after"]
    return None if before is None else before.encode(), str(after)
