"""Whether the folders that a run writes into can be made and written, tried before anything heavy is done."""

import os
import tempfile
from pathlib import Path

from library.errors import InputError
from library.settings import Settings
from library.train.data import cache_folder

REMEDIES = {
    "output_dir": "give another folder",
    "logging_dir": "give another folder",
    "cache_dir": "set cache_dir, or XDG_CACHE_HOME, to a folder of yours",
}


def check_places(settings: Settings) -> None:
    """Raises InputError naming every folder into which nothing can be written; leaves nothing behind.

    Permissions alone do not tell: disks can be read-only, full, or no disks at all, as /proc is none.
    """
    folders = {"output_dir": settings.output_dir, "logging_dir": settings.logging_dir}
    wrong = []
    for name, folder in (folders | {"cache_dir": cache_folder(settings)}).items():
        try:
            _try_out(folder.absolute())
        except OSError as error:
            reason = error.strerror or error
            wrong.append(f"{name} '{folder}' cannot be written ({reason}); {REMEDIES[name]}.")
    if wrong:
        raise InputError.of(wrong)


def _try_out(folder: Path) -> None:
    """Makes the folder or one in it, and takes away what it made. Raises OSError where that cannot be done."""
    missing = []
    while not os.path.exists(folder):
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    try:
        for each in reversed(missing):
            each.mkdir(exist_ok=True)
            made.append(each)
        made.append(Path(tempfile.mkdtemp(prefix=".easel-", dir=missing[0] if missing else folder)))
    finally:
        for each in reversed(made):
            _remove(each)


def _remove(folder: Path) -> None:
    """Takes an empty folder away; one that another process has begun to use stays."""
    try:
        folder.rmdir()
    except OSError:
        if not any(folder.iterdir()):
            raise
