"""The picture index: what the check of each picture found, so that the next start need not read them all."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from library.data.decoding import Facts, examine
from library.errors import InputError
from library.files import write_atomically

VERSION = 1


class PictureIndex:
    """Facts about pictures by path, valid while size and time of change (in ns) of the file are the same.

    Only whole pictures are remembered: a file that could not be read is tried again. Without a folder nothing
    is remembered.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / "pictures.json" if folder else None
        self._known = self._read()
        self._new: dict[str, list[int | str]] = {}

    def get(self, path: Path) -> Facts | None:
        """What is known of an unchanged picture."""
        row = self._known.get(str(path.resolve()))
        if not row or row[:2] != _stamp(path):
            return None
        return Facts(str(row[2]), int(row[3]), int(row[4]))

    def examine(self, path: Path) -> Facts:
        """The facts from the index, or else from the picture. Raises ValueError where it cannot be read."""
        facts = self.get(path)
        if facts is None:
            stamp = _stamp(path)  # before reading, so that a change in between is noticed next time
            facts = examine(path)
            self._new[str(path.resolve())] = [*stamp, *facts]
        return facts

    def save(self) -> None:
        """Adds what is new to the file, keeping what another process may have added."""
        if self._file is None or not self._new:
            return
        rows = self._read() | self._new
        content = json.dumps({"version": VERSION, "pictures": rows}).encode()

        def write(path: Path) -> None:
            path.write_bytes(content)

        try:
            write_atomically(self._file, write)
        except OSError as error:
            reason = f"{self._file}: {error.strerror or error}"
            raise InputError(f"the cache cannot be written ({reason}); choose another cache_dir.") from error
        self._known, self._new = rows, {}

    def _read(self) -> dict[str, list[int | str]]:
        """The rows of the file; a missing or damaged one is an empty index."""
        if self._file is None:
            return {}
        try:
            table = json.loads(self._file.read_text(encoding="utf-8"))
            rows = table["pictures"] if table["version"] == VERSION else {}
            return {path: row for path, row in rows.items() if _is_row(row)}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return {}


def examine_all(paths: Iterable[Path], index: PictureIndex) -> tuple[dict[Path, Facts], dict[Path, str]]:
    """The facts of all pictures that are whole, and the reason for each that is not."""
    facts: dict[Path, Facts] = {}
    broken: dict[Path, str] = {}
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        checks = {path: pool.submit(index.examine, path) for path in paths}
    for path, check in checks.items():
        try:
            facts[path] = check.result()
        except ValueError as error:
            broken[path] = str(error)
    return facts, broken


def _stamp(path: Path) -> list[int | str]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _is_row(row: object) -> bool:
    kinds = [int, int, str, int, int]
    return isinstance(row, list) and [type(cell) for cell in row] == kinds
