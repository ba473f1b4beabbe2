"""Fills the caches before training: pictures are decoded ahead, each once, and encoded in batches of one size."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from typing import NamedTuple

import torch
from torch import Tensor

from library.data.cache import LatentCache, Latents, MaskCache
from library.data.dataset import Dataset
from library.data.images import load_pixels
from library.data.pictures import Picture
from library.data.views import View, cached_views, face_of
from library.errors import InputError

READERS = min(8, os.cpu_count() or 1)  # threads that decode pictures while the VAE works
WRITERS = 4  # threads that write entries, because a disk takes its time
AHEAD = 2  # things for each of them that wait, so that the VAE never does
WAITING_BYTES = 1 << 28  # of decoded pixels, above which no more pictures are begun
CHANNELS, FLOAT_BYTES = 3, 4

Progress = Callable[[int, int], None]
Shown = tuple[Picture, View, Tensor]  # a picture, how it is shown, and its pixels (3, height, width)


class Wanted(NamedTuple):
    """A picture and the ways in which training may show it, each once."""

    picture: Picture
    views: tuple[View, ...]

    @property
    def bytes(self) -> int:
        """What the decoded pixels of all views take."""
        width, height = self.picture.size
        return len(self.views) * width * height * CHANNELS * FLOAT_BYTES


def wanted_views(dataset: Dataset) -> Iterator[Wanted]:
    """All that training with a cache can ask for, by size; each content with its mask comes once."""
    groups: dict[tuple[object, ...], dict[tuple[object, ...], Picture]] = {}
    for sample in dataset.samples:
        picture = sample.picture
        mask = picture.mask.sha256 if picture.mask else ""
        face = face_of(picture) if picture.subset.face_crop_aug_range else None
        groups.setdefault((picture.size, picture.sha256, mask), {})[id(picture.subset), face] = picture
    for key in sorted(groups):
        pictures = list(groups[key].values())
        views = (view for picture in pictures for view in cached_views(picture, dataset.variants or 1))
        yield Wanted(pictures[0], tuple(dict.fromkeys(views)))


def prepare_latents(
    dataset: Dataset,
    encode: Callable[[Tensor], Latents],
    cache: LatentCache,
    batch_size: int = 1,
    progress: Progress | None = None,
    share: tuple[int, int] = (0, 1),
) -> int:
    """Encodes what the cache lacks, in batches of one size, and says how many views of pictures that were.

    Args:
        dataset: its pictures, in all the views that its subsets make of them
        encode: (batch, 3, height, width) float32 in [-1, 1] on the CPU to the latents' mean and log-variance
        cache: where they go
        batch_size: views that are encoded together
        progress: told (done, of how many) after each batch
        share: (rank, number of processes); each process encodes its own share, and has to wait for the others

    Raises FloatingPointError where the VAE gives numbers that are not finite, or is known to.
    """
    missing = _missing(dataset, cache, share)
    total, done = sum(len(wanted.views) for wanted in missing), 0
    with ThreadPoolExecutor(WRITERS) as pool:
        writes: deque[Future[None]] = deque()
        for batch in _batches(_decoded(missing), batch_size):
            with torch.no_grad():
                means, logvars = (each.float().cpu() for each in encode(torch.stack([shown[2] for shown in batch])))
            for (picture, view, _), mean, logvar in zip(batch, means, logvars, strict=True):
                if not (mean.isfinite().all() and logvar.isfinite().all()):
                    cache.note_overflow(picture, view)
                    raise _overflow(picture)
                writes.append(pool.submit(cache.put, picture, view, mean, logvar))
            done += len(batch)
            _wait(writes, at_most=AHEAD * WRITERS)
            if progress:
                progress(done, total)
        _wait(writes, at_most=0)
    return done


def missing_latents(dataset: Dataset, cache: LatentCache) -> list[View]:
    """Every view of a picture that a cache lacks."""
    wanted = wanted_views(dataset)
    return [view for each in wanted for view in each.views if not cache.path_of(each.picture, view).exists()]


def prepare_masks(dataset: Dataset, cache: MaskCache, share: tuple[int, int] = (0, 1)) -> None:
    """Makes the small masks that the cache lacks. Raises InputError naming every mask that cannot be read."""
    masked = [wanted for wanted in wanted_views(dataset) if wanted.picture.mask] if dataset.has_masks else []
    with ThreadPoolExecutor(READERS) as pool:
        complaints = pool.map(lambda wanted: _fill(cache, wanted), masked[share[0] :: share[1]])
    found = dict.fromkeys(sentence for sentences in complaints for sentence in sentences)
    if found:
        raise InputError.of(found)


def _wait(writes: deque[Future[None]], at_most: int) -> None:
    """Until no more than so many are waiting; raises what went wrong in those before."""
    while len(writes) > at_most:
        writes.popleft().result()


def _fill(cache: MaskCache, wanted: Wanted) -> Sequence[str]:
    """Fills the cache with one picture's masks; what is wrong with them, if anything."""
    try:
        cache.fill(*wanted)
    except InputError as error:
        return error.sentences
    return ()


def _missing(dataset: Dataset, cache: LatentCache, share: tuple[int, int]) -> list[Wanted]:
    """What this process has to encode."""
    rank, world_size = share
    own: list[Wanted] = []
    # By position in what is needed, not in what is missing: the others may already have written some of that.
    for number, (picture, views) in enumerate(wanted_views(dataset)):
        absent = tuple(view for view in views if not cache.path_of(picture, view).exists())
        if any(cache.overflows(picture, view) for view in absent):
            raise _overflow(picture)
        if absent and number % world_size == rank:
            own.append(Wanted(picture, absent))
    return own


def _decoded(missing: Sequence[Wanted]) -> Iterator[Shown]:
    """Each view of each picture with its pixels, decoded while those before are encoded."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[tuple[Wanted, Future[list[Tensor]]]] = deque()
        begun = iter(missing)
        while True:
            while len(waiting) < READERS * AHEAD and sum(each.bytes for each, _ in waiting) < WAITING_BYTES:
                wanted = next(begun, None)
                if wanted is None:
                    break
                waiting.append((wanted, pool.submit(load_pixels, *wanted)))
            if not waiting:
                return
            (picture, views), pixels = waiting.popleft()
            yield from zip([picture] * len(views), views, pixels.result(), strict=True)


def _batches(shown: Iterable[Shown], batch_size: int) -> Iterator[list[Shown]]:
    """Batches of one size each; what is given comes sorted by size."""
    for _, same in groupby(shown, key=lambda each: each[1].size):
        while batch := list(islice(same, batch_size)):
            yield batch


def _overflow(picture: Picture) -> FloatingPointError:
    return FloatingPointError(f"the VAE makes numbers that are not finite of {picture.path}; give another vae.")
