"""Whether there is room on the disk for what a run will write, asked before it is needed."""

import math
import shutil
from collections.abc import Iterable
from pathlib import Path

from library.data.cache import LatentCache
from library.data.dataset import Dataset
from library.data.encoding import missing_latents
from library.errors import InputError

MEGABYTE = 1e6
LATENT_BYTES = 2 * 4 * 4  # mean and log-variance, four channels, float32
ENTRY_BYTES = 500  # of names and hashes in a cache's file


def cache_bytes(datasets: Iterable[Dataset], cache: LatentCache) -> int:
    """What the latents take that a cache lacks."""
    sizes = [view.size for dataset in datasets for view in missing_latents(dataset, cache)]
    return sum((width // 8) * (height // 8) * LATENT_BYTES + ENTRY_BYTES for width, height in sizes)


def check_cache_room(datasets: Iterable[Dataset], cache: LatentCache) -> None:
    """Raises InputError where the latents that are still to be made do not fit on the disk."""
    remedy = "Make room, choose another cache_dir, or set cache_latents = false."
    check_room("cache_dir", cache.folder, cache_bytes(datasets, cache), remedy)


def check_room(name: str, folder: Path, needed: int, remedy: str) -> None:
    """Raises InputError where `needed` bytes are not free in the folder of the setting `name`, which need not exist."""
    there = Path(folder).resolve()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise InputError(
            f"{name}: this run takes up to {as_megabytes(needed)} there, and {as_megabytes(free)} are free in {there}. "
            f"{remedy}"
        )


def as_megabytes(size: float) -> str:
    """A number of bytes for a person."""
    return f"{math.ceil(size / MEGABYTE):,} MB"
