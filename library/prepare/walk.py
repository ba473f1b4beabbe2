"""Going through a folder of pictures: found, worked on one by one, and the bad ones named at the end."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import TypeVar

from tqdm import tqdm

from library.data.folders import MASK_ENDING, UNREAD_EXTENSIONS, is_picture
from library.errors import InputError
from library.log import say

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2  # tasks that wait for each worker


@dataclass
class Outcome:
    """What became of the pictures: counted by words such as "written", and those that failed with the reason."""

    counts: dict[str, int] = field(default_factory=dict)
    failed: dict[Path, str] = field(default_factory=dict)

    def count(self, word: str) -> None:
        """Counts one picture under a word."""
        self.counts[word] = self.counts.get(word, 0) + 1

    def fail(self, path: Path, reason: str) -> None:
        """Notes a picture that could not be worked on."""
        self.failed[path] = reason


def find_pictures(folder: Path, recursive: bool = False, other_kinds: bool = False) -> list[Path]:
    """The pictures of a folder, by path; hidden files and folders and masks are left out.

    Args:
        folder: where they lie
        recursive: whether folders inside it are searched too
        other_kinds: whether kinds that training does not read (GIF, TIFF) count as well

    Raises InputError where the folder is missing or holds none.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        what = "is a file; a folder of pictures is needed" if os.path.exists(folder) else "does not exist"
        raise InputError(f"the picture folder {folder} {what}.")
    found = sorted(path for path in _files(folder, recursive) if _counts(path, other_kinds))
    if not found:
        hint = "" if recursive else "; --recursive looks into the folders inside it too"
        raise InputError(f"no pictures found in {folder}{hint}.")
    return found


def work_through(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    description: str,
    processes: int = 1,
    threads: bool = False,
) -> Iterator[tuple[Item, Result | Exception]]:
    """Each item with what `work` made of it, or with the exception that it raised; in order, with a progress bar.

    Args:
        items: what is worked on
        work: a function at the top of a module where there are processes
        description: in front of the progress bar
        processes: how many work at the same time; 1 works in this process, 0 stands for all cores
        threads: threads instead of processes
    """
    workers = processes or os.cpu_count() or 1
    with tqdm(total=len(items), desc=description, unit="picture", delay=0.5) as bar:
        for item, result in _results(items, work, workers, threads):
            bar.update()
            yield item, result


def read_ahead(
    items: Iterable[Item], read: Callable[[Item], Result], workers: int = 2
) -> Iterator[tuple[Item, Result | Exception]]:
    """Each item with what `read` gave or raised, in order, read by threads a little before it is needed."""
    with ThreadPoolExecutor(workers) as pool:
        yield from _pooled(items, read, pool, workers)


def finish(outcome: Outcome, what: str) -> int:
    """Says what was done and names what failed; returns the exit status, 0.

    `what` names the things in the plural: "captions". Raises InputError where everything failed.
    """
    if outcome.failed and not outcome.counts:
        sentences = (f"{path}: {reason}." for path, reason in outcome.failed.items())
        raise InputError.of([f"none of the {what} could be made.", *sentences])
    parts = [f"{number} {word}" for word, number in outcome.counts.items()]
    failed = f", {len(outcome.failed)} failed:" if outcome.failed else "."
    say(f"{what}: {', '.join(parts) or 'nothing to do'}{failed}")
    for path, reason in outcome.failed.items():
        say(f"  {path}: {reason}")
    return 0


def _files(folder: Path, recursive: bool) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}.") from error
    for path in entries:
        if path.name.startswith("."):
            continue
        if path.is_file() or not path.exists():  # a link that leads nowhere is to be named too
            yield path
        elif recursive and path.is_dir():
            yield from _files(path, recursive)


def _counts(path: Path, other_kinds: bool) -> bool:
    unusual = path.suffix.lower() in UNREAD_EXTENSIONS and not path.stem.endswith(MASK_ENDING)
    return is_picture(path) or (other_kinds and unusual)


def _results(
    items: Sequence[Item], work: Callable[[Item], Result], workers: int, threads: bool
) -> Iterator[tuple[Item, Result | Exception]]:
    if workers == 1:
        for item in items:
            yield item, _attempt(work, item)
        return
    pool: Executor = ThreadPoolExecutor(workers) if threads else _process_pool(workers)
    with pool:
        yield from _pooled(items, work, pool, workers)


def _process_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes, as a copy of one that has threads may stand still for ever."""
    return ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)


def _start_worker() -> None:
    """Leaves Ctrl+C to the first process, and ends when that does, in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _pooled(
    items: Iterable[Item], work: Callable[[Item], Result], pool: Executor, workers: int
) -> Iterator[tuple[Item, Result | Exception]]:
    waiting: list[tuple[Item, Future[Result | Exception]]] = []
    try:
        for item in items:
            waiting.append((item, pool.submit(_attempt, work, item)))
            if len(waiting) > workers * AHEAD:
                first, future = waiting.pop(0)
                yield first, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def _attempt(work: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return work(item)
    except Exception as error:
        return error
