"""Files written whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

import psutil

MODEL_INDEX = "model_index.json"  # by which a folder is a model in diffusers' layout
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# How libraries word it that turn the system's error into one of their own; the last is what torch says of every
# write of its own that fails.
FULL_DISK_WORDS = ("no space left", "os error 28", "disk quota exceeded", "inline_container.cc")


def expanded(name: str) -> Path:
    """A path with ~ and ~user as the home folders that they stand for; as it is where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def is_endless(path: Path) -> bool:
    """Whether this is a pipe or a device, which a reader would wait for without end."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def why_unwritable(path: Path) -> str | None:
    """Why nothing can be made at `path`, in the system's words; None where it can be, or a folder there be filled.

    Permissions alone do not tell: disks can be read-only, full, or no disks at all, as /proc is none. So what is
    missing is made in a folder of this process's own, which is taken away again.
    """
    folder, missing = path.absolute(), []
    while not os.path.lexists(folder) and folder != folder.parent:
        missing.append(folder.name)
        folder = folder.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".easel-", dir=folder) as own:
            Path(own, *reversed(missing)).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file beside `path`, then renames it, so that `path` is never half written."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}.part")
    try:
        write(unfinished)
        with open(unfinished, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def default_cache() -> Path:
    """Where the house keeps what it can compute again: easel in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else expanded("~/.cache")) / "easel"


def sweep_unfinished(folder: Path, name: str) -> None:
    """Deletes what killed processes left of the files and folders that runs called `name` write."""
    file = re.compile(rf"\.{re.escape(name)}[-_.].*\.(\d+)-\d+\.part")
    tree = re.compile(rf"\.({re.escape(name)}(-\d{{6,}}|-step\d{{8,}})?(-ema)?)\.(part|gone)")
    for path in folder.iterdir() if folder.is_dir() else ():
        writer = file.fullmatch(path.name)
        if writer and not psutil.pid_exists(int(writer[1])):
            path.unlink(missing_ok=True)
        model = tree.fullmatch(path.name)
        # While a model takes another's place, its index is away; then both are of use to a person.
        if model and path.is_dir() and (not (folder / model[1]).exists() or (folder / model[1] / MODEL_INDEX).exists()):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def naming_full_disk(path: Path) -> Iterator[None]:
    """Makes of every error that says that the disk is full, in whatever words, an OSError that names `path`."""
    try:
        yield
    except Exception as error:
        if is_full_disk(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


def is_full_disk(error: BaseException) -> bool:
    """Whether `error` says that there is no room left on a disk."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL_DISK
    return any(words in str(error).lower() for words in FULL_DISK_WORDS)
