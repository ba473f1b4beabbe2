"""Latents on disk, named by what they are made from: never stale or half written, rebuilt when damaged."""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from library.data.buckets import Size
from library.data.dataset import Dataset
from library.data.images import load_pixels
from library.data.pictures import Picture
from library.errors import InputError
from library.weights import save_tensors

VERSION = 2  # goes up when pixels are made differently, so that old entries are not found any more
READERS = 2  # threads that decode pictures while the VAE works
AHEAD = 2  # batches that are decoded before they are needed

Latents = tuple[Tensor, Tensor]
Entry = tuple[Picture, bool]  # a picture, and whether it is mirrored


class LatentCache:
    """Mean and log-variance of each picture's latents, (channels, height / 8, width / 8) float32.

    An entry's name is a hash of the picture's bytes, of where it is cut, of its mirroring and of
    `vae_fingerprint`, which stands for the VAE's weights and for the precision they are used in.
    """

    def __init__(self, folder: Path, vae_fingerprint: str) -> None:
        self.folder = Path(folder) / "latents"
        self._fingerprint = vae_fingerprint

    def path_of(self, picture: Picture, flip: bool) -> Path:
        """The file that holds, or would hold, this picture's latents."""
        parts = (VERSION, self._fingerprint, picture.sha256, *picture.placing.resized, *picture.size, flip)
        name = sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.safetensors"

    def get(self, picture: Picture, flip: bool) -> Latents | None:
        """Mean and log-variance, or None where there is no entry or a damaged one."""
        try:
            # Read at once, so that another process may replace the file at any moment.
            tensors = load(self.path_of(picture, flip).read_bytes())
        except (OSError, SafetensorError, ValueError, KeyError):
            return None
        if tensors.keys() != {"mean", "logvar", "digest"}:
            return None
        mean, logvar = tensors["mean"], tensors["logvar"]
        return (mean, logvar) if torch.equal(tensors["digest"], _digest(mean, logvar)) else None

    def put(self, picture: Picture, flip: bool, mean: Tensor, logvar: Tensor) -> None:
        """Writes an entry, whole or not at all; the tensors may be of any dtype and on any device."""
        mean, logvar = (tensor.detach().float().cpu().contiguous() for tensor in (mean, logvar))
        path = self.path_of(picture, flip)
        try:
            save_tensors(path, {"mean": mean, "logvar": logvar, "digest": _digest(mean, logvar)})
        except OSError as error:
            reason = f"{path}: {error.strerror or error}"
            raise InputError(f"the cache cannot be written ({reason}); choose another cache_dir.") from error


def prepare_latents(
    dataset: Dataset,
    encode: Callable[[Tensor], Latents],
    cache: LatentCache,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
    share: tuple[int, int] = (0, 1),
) -> int:
    """Encodes what the cache lacks, in batches of one size, and says how many pictures that were.

    Args:
        dataset: its pictures, mirrored ones too where a subset has `flip_aug`
        encode: (batch, 3, height, width) float32 in [-1, 1] on the CPU to the latents' mean and log-variance
        cache: where they go
        batch_size: pictures that are encoded together
        progress: told (done, of how many) after each batch
        share: (rank, number of processes); each process encodes its own share, and has to wait for the others

    Raises FloatingPointError where the VAE gives numbers that are not finite.
    """
    rank, world_size = share
    # By position in what is needed, not in what is missing: the others may already have written some of that.
    missing = [entry for entry in needed_entries(dataset)[rank::world_size] if cache.get(*entry) is None]
    done = 0
    for batch, pixels in _decoded(_batches(missing, batch_size)):
        with torch.no_grad():
            means, logvars = encode(pixels)
        for (picture, flip), mean, logvar in zip(batch, means, logvars, strict=True):
            _check_finite(picture, mean, logvar)
            cache.put(picture, flip, mean, logvar)
        done += len(batch)
        if progress:
            progress(done, len(missing))
    return done


def needed_entries(dataset: Dataset) -> list[Entry]:
    """Every (picture, mirrored) that training can ask for, once for each content and placing, by size."""
    needed: dict[tuple[object, ...], Entry] = {}
    for sample in dataset.samples:
        picture = sample.picture
        for flip in (False, True) if picture.subset.flip_aug else (False,):
            needed.setdefault((picture.size, picture.placing, picture.sha256, flip), (picture, flip))
    return [needed[key] for key in sorted(needed)]


def _batches(entries: Iterable[Entry], batch_size: int) -> list[list[Entry]]:
    """The entries in batches of one size."""
    groups: dict[Size, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry[0].size].append(entry)
    return [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]


def _decoded(batches: Sequence[list[Entry]]) -> Iterator[tuple[list[Entry], Tensor]]:
    """Each batch with its pixels, (batch, 3, height, width), decoded while the one before is encoded."""
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        waiting: deque[tuple[list[Entry], list[Future[Tensor]]]] = deque()
        for batch in batches:
            waiting.append((batch, [pool.submit(load_pixels, *entry) for entry in batch]))
            if len(waiting) > AHEAD:
                yield _stacked(*waiting.popleft())
        while waiting:
            yield _stacked(*waiting.popleft())


def _stacked(batch: list[Entry], pixels: list[Future[Tensor]]) -> tuple[list[Entry], Tensor]:
    return batch, torch.stack([future.result() for future in pixels])


def _check_finite(picture: Picture, mean: Tensor, logvar: Tensor) -> None:
    if not (mean.isfinite().all() and logvar.isfinite().all()):
        raise FloatingPointError(
            f"the VAE makes numbers that are not finite of {picture.path}. In half precision some VAEs do; "
            "give another vae, or set mixed_precision = \"no\"."
        )


def _digest(mean: Tensor, logvar: Tensor) -> Tensor:
    """A hash of values and shapes, (32,) uint8, which finds changed bytes where the file's form is intact."""
    digest = sha256()
    for tensor in (mean, logvar):
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
