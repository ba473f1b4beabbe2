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
    """Makes what is missing of the folder, in one of this process's own, and takes it away again. Raises OSError."""
    missing = []
    while not os.path.exists(folder):
        missing.append(folder.name)
        folder = folder.parent
    with tempfile.TemporaryDirectory(prefix=".easel-", dir=folder) as own:
        Path(own, *reversed(missing)).mkdir(parents=True, exist_ok=True)
