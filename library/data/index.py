"""The picture index: what the check of each picture found, so that the next start need not read them all."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

from tqdm import tqdm

from library.data.decoding import Facts, examine
from library.errors import InputError
from library.files import write_atomically
from library.log import is_speaker

VERSION = 3
CHUNK = 32  # pictures that a thread takes at a time

Row = list[int | str]  # size in bytes, time of change in ns, and the facts
ROW_TYPES = [int, int, str, int, int]


class PictureIndex:
    """Facts about pictures by path, valid while size and time of change (in ns) of the file are the same.

    There is one file for each folder of pictures, so that a start reads what it needs and no more. Only whole
    pictures are remembered: a file that could not be read is tried again. Without a folder nothing is remembered.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder / "pictures" if folder else None
        self._known: dict[str, dict[str, Row]] = {}  # by folder, then by name
        self._new: dict[str, dict[str, Row]] = {}

    def get(self, path: Path) -> Facts | None:
        """What is known of an unchanged picture."""
        folder, name = os.path.split(path)
        if folder not in self._known:
            self._known[folder] = self._read(folder)
        row = self._known[folder].get(name)
        if row is None or row[:2] != _stamp(path):
            return None
        return Facts(str(row[2]), int(row[3]), int(row[4]))

    def examine(self, path: Path) -> Facts:
        """The facts from the index, or else from the picture. Raises ValueError where it cannot be read."""
        facts = self.get(path)
        if facts is None:
            row = _examined(path)
            if isinstance(row, str):
                raise ValueError(row)
            facts = self.add(path, row)
        return facts

    def add(self, path: Path, row: Row) -> Facts:
        """Remembers what was found out about a picture, and returns it."""
        folder, name = os.path.split(path)
        self._new.setdefault(folder, {})[name] = row
        return Facts(str(row[2]), int(row[3]), int(row[4]))

    def save(self) -> None:
        """Adds what is new to the files, keeping what another process may have added."""
        for folder, rows in self._new.items():
            file = self._file_of(folder)
            if file is None:
                return
            table = {"version": VERSION, "folder": folder, "pictures": self._read(folder) | rows}
            content = json.dumps(table, separators=(",", ":")).encode()
            try:
                write_atomically(file, partial(Path.write_bytes, data=content))
            except OSError as error:
                reason = f"{file}: {error.strerror or error}"
                raise InputError(f"the cache cannot be written ({reason}); choose another cache_dir.") from error
        self._known, self._new = {}, {}

    def _file_of(self, folder: str) -> Path | None:
        if self._folder is None:
            return None
        whole = os.path.realpath(folder)
        return self._folder / f"{sha256(os.fsencode(whole)).hexdigest()[:40]}.json"

    def _read(self, folder: str) -> dict[str, Row]:
        """The rows of a folder's file; a missing or damaged one is an empty index."""
        file = self._file_of(folder)
        try:
            table = json.loads(file.read_text(encoding="utf-8")) if file else {}
            rows = table["pictures"] if table.get("version") == VERSION else {}
            return {name: row for name, row in rows.items() if _is_row(row)}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def examine_all(paths: Iterable[Path], index: PictureIndex) -> tuple[dict[Path, Facts], dict[Path, str]]:
    """The facts of all pictures that are whole, and the reason for each that is not; new ones by all cores.

    What was found out goes into the index, also when a person stops it half way.
    """
    facts: dict[Path, Facts | None] = {path: index.get(path) for path in paths}
    broken: dict[Path, str] = {}
    try:
        for path, row in _examined_by_all([path for path, known in facts.items() if known is None]):
            if isinstance(row, str):
                broken[path] = row
            else:
                facts[path] = index.add(path, row)
    finally:
        index.save()
    return {path: known for path, known in facts.items() if known is not None}, broken


def _examined_by_all(paths: Sequence[Path]) -> Iterator[tuple[Path, Row | str]]:
    """Each picture with its row or with what is wrong with it, in order."""
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    silent = not is_speaker()
    bar = tqdm(total=len(paths), desc="checking pictures", unit="picture", delay=1, leave=False, disable=silent)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk, rows in zip(chunks, pool.map(_examined_all, chunks), strict=True):
            bar.update(len(chunk))
            yield from zip(chunk, rows, strict=True)


def _examined_all(paths: Sequence[Path]) -> list[Row | str]:
    return [_examined(path) for path in paths]


def _examined(path: Path) -> Row | str:
    """What a file holds, or why it is no picture."""
    stamp = _stamp(path)  # before reading, so that a change in between is noticed next time
    try:
        return [*stamp, *examine(path)]
    except ValueError as error:
        return str(error)


def _stamp(path: Path) -> Row:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _is_row(row: object) -> bool:
    return isinstance(row, list) and [type(cell) for cell in row] == ROW_TYPES
