"""The order of learning: which samples make a step, and which of them this process reads when."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from library.data.cache import LatentCache, needed_entries
from library.data.dataset import Dataset
from library.data.epochs import Sample
from library.data.images import load_pixels
from library.data.pictures import Picture
from library.device import Compute
from library.models.family import Family
from library.settings import Settings
from library.train.plan import Plan
from library.train.step import Batch

# Up to this much, the latents of a whole set stay on the device for the length of the run.
RESIDENT_BYTES = 1 << 30


@dataclass(frozen=True)
class Slice:
    """The samples that one forward pass learns from: one process's part of an effective batch."""

    samples: tuple[Sample, ...]
    epoch: int
    count: int  # samples in the whole effective batch; the loss is divided by it


def slices_of_epoch(dataset: Dataset, plan: Plan, rank: int, epoch: int) -> list[list[Slice]]:
    """For each step of an epoch (from 0), the slices of process `rank`, in order; a step may have fewer, or none.

    The effective batches do not depend on how they are cut, so batch 4 learns what batch 2 on two processes does.
    """
    steps = []
    for effective in dataset.plan(epoch, plan.effective_batch):
        cut = [effective[start : start + plan.batch_size] for start in range(0, len(effective), plan.batch_size)]
        steps.append([Slice(samples, epoch, len(effective)) for samples in cut[rank :: plan.world_size]])
    return steps


class Latents:
    """Where the latents of samples come from: memory, the cache on disk, or the pictures and the VAE.

    `read` gives what can be read without a model, so that DataLoader's workers can do it.
    """

    def __init__(self, dataset: Dataset, cache: LatentCache | None, device: torch.device) -> None:
        """Without `cache` the pictures themselves are read, and `Batches` encodes them."""
        self.dataset, self.cache = dataset, cache
        self.memory = self._all_in_memory(device) if cache else None

    def _all_in_memory(self, device: torch.device) -> dict[Path, tuple[Tensor, Tensor]] | None:
        """All latents on `device` by their keys, or None if they would take too much room there."""
        memory: dict[Path, tuple[Tensor, Tensor]] = {}
        size = 0
        for picture, flip in needed_entries(self.dataset):
            mean, logvar = self._from_disk(picture, flip)
            size += mean.nbytes + logvar.nbytes
            if size > RESIDENT_BYTES:
                return None
            memory[self._key(picture, flip)] = (mean.to(device), logvar.to(device))
        return memory

    def read(self, part: Slice) -> tuple[Tensor, ...]:
        """(mean, logvar), each (batch, 4, height / 8, width / 8); or (pixels,), (batch, 3, height, width)."""
        chosen = [(sample.picture, self.dataset.flip_of(sample, part.epoch)) for sample in part.samples]
        if self.cache is None:
            return (torch.stack([load_pixels(picture, flip) for picture, flip in chosen]),)
        if self.memory is not None:
            pairs = [self.memory[self._key(picture, flip)] for picture, flip in chosen]
        else:
            pairs = [self._from_disk(picture, flip) for picture, flip in chosen]
        return torch.stack([mean for mean, _ in pairs]), torch.stack([logvar for _, logvar in pairs])

    def _key(self, picture: Picture, flip: bool) -> Path:
        assert self.cache is not None
        return self.cache.path_of(picture, flip)

    def _from_disk(self, picture: Picture, flip: bool) -> tuple[Tensor, Tensor]:
        assert self.cache is not None
        latents = self.cache.get(picture, flip)
        if latents is None:
            raise RuntimeError(f"the cached latents of {picture.path} vanished while they were in use")
        return latents


@dataclass(frozen=True)
class _Reading(TorchDataset[tuple[Tensor, ...]]):
    """Slices by their numbers, as DataLoader wants them."""

    latents: Latents
    parts: Sequence[Slice]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        return self.latents.read(self.parts[number])


class Batches:
    """Everything a step learns from, on the device, epoch by epoch."""

    def __init__(
        self,
        family: Family,
        vae: nn.Module | None,
        latents: Latents,
        plan: Plan,
        compute: Compute,
        workers: int,
    ) -> None:
        """`vae` is needed where nothing is cached; `workers` are processes that read ahead."""
        self.family, self.vae, self.latents, self.plan, self.compute = family, vae, latents, plan, compute
        self.workers = 0 if latents.memory is not None else workers

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[list[Batch]]:
        """This process's batches of each step of `epoch` (from 0), from its step number `first` on."""
        steps = slices_of_epoch(self.latents.dataset, self.plan, self.compute.rank, epoch)[first:]
        batches = self.of_slices([part for parts in steps for part in parts])
        for parts in steps:
            yield [next(batches) for _ in parts]

    def of_slices(self, parts: Sequence[Slice]) -> Iterator[Batch]:
        """The batch of each slice, in order."""
        for part, tensors in zip(parts, self._read(parts), strict=True):
            yield self._batch(part, tensors)

    def _batch(self, part: Slice, tensors: tuple[Tensor, ...]) -> Batch:
        """What the model is given for one slice."""
        dataset, device = self.latents.dataset, self.compute.device
        moved = [tensor.to(device, non_blocking=True) for tensor in tensors]
        mean, logvar = moved if len(moved) == 2 else self._encode(moved[0])
        weights = [sample.loss_weight / part.count for sample in part.samples]
        return Batch(
            mean=mean,
            logvar=logvar,
            captions=[dataset.caption_of(sample, part.epoch) for sample in part.samples],
            weights=torch.tensor(weights).to(device, non_blocking=True),
            draws=[dataset.draw_seed(sample, part.epoch) for sample in part.samples],
        )

    def _encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        assert self.vae is not None
        with torch.no_grad():
            return self.family.encode_images(self.vae, pixels)

    def _read(self, parts: Sequence[Slice]) -> Iterator[tuple[Tensor, ...]]:
        reading = _Reading(self.latents, parts)
        if not self.workers:
            return (reading[number] for number in range(len(parts)))
        pinned = self.compute.device.type == "cuda"
        return iter(DataLoader(reading, batch_size=None, num_workers=self.workers, pin_memory=pinned))


def open_batches(
    settings: Settings,
    dataset: Dataset,
    family: Family,
    vae: nn.Module,
    cache: LatentCache | None,
    plan: Plan,
    compute: Compute,
) -> Batches:
    """The batches of a dataset, from the cache, or by the VAE where there is none."""
    latents = Latents(dataset, cache, compute.device)
    return Batches(family, vae, latents, plan, compute, settings.max_data_loader_n_workers)
