"""The order of learning: which samples make a step, and which of them this process reads when."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from library.data.cache import Caches
from library.data.dataset import Dataset
from library.data.epochs import Sample
from library.data.views import sizes_of
from library.device import Compute
from library.settings import Settings
from library.train.caption_weights import caption_weigher
from library.train.latents import Latents, Reading
from library.train.plan import Plan
from library.train.signals import leave_signals_to_the_run, signals_later
from library.train.step import Batch
from library.train.vae import Vae

THREADS = 4  # that read where no other processes do
AHEAD = 8  # slices that they read before they are needed


@dataclass(frozen=True)
class Slice:
    """The samples that one forward pass learns from: one process's part of an effective batch."""

    samples: tuple[Sample, ...]
    epoch: int
    count: int  # samples in the whole effective batch; the loss is divided by it
    step: int = 0  # steps of the run before this one


def slices_of_epoch(dataset: Dataset, plan: Plan, rank: int, epoch: int) -> list[list[Slice]]:
    """For each step of an epoch (from 0), the slices of process `rank`, in order; a step may have fewer, or none.

    The effective batches do not depend on how they are cut, so batch 4 learns what batch 2 on two processes does.
    """
    steps = []
    for step, effective in enumerate(dataset.plan(epoch, plan.times), epoch * plan.steps_per_epoch):
        size = effective[0].picture.subset.batch_size
        cut = [effective[start : start + size] for start in range(0, len(effective), size)]
        steps.append([Slice(samples, epoch, len(effective), step) for samples in cut[rank :: plan.world_size]])
    return steps


@dataclass(frozen=True)
class _Slices(TorchDataset[Reading]):
    """Slices by their numbers, as DataLoader wants them."""

    latents: Latents
    parts: Sequence[Slice]

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, number: int) -> Reading:
        return self.latents.read(self.parts[number].samples, self.parts[number].epoch)


class Batches:
    """Everything a step learns from, on the device, epoch by epoch."""

    def __init__(
        self,
        vae: Vae,
        latents: Latents,
        plan: Plan,
        compute: Compute,
        workers: int,
        weigh: Callable[[str], float] = lambda caption: 1.0,
    ) -> None:
        """`vae` encodes what is not in a cache; `workers` are processes that read ahead, 0 stands for threads.

        `weigh` gives what a picture counts in the loss by its caption.
        """
        self.vae, self.latents, self.plan, self.compute, self.workers = vae, latents, plan, compute, workers
        self.weigh = weigh

    def of_epoch(self, epoch: int, first: int = 0) -> Iterator[list[Batch]]:
        """This process's batches of each step of `epoch` (from 0), from its step number `first` on."""
        steps = slices_of_epoch(self.latents.dataset, self.plan, self.compute.rank, epoch)[first:]
        batches = self.of_slices([part for parts in steps for part in parts])
        for parts in steps:
            yield [next(batches) for _ in parts]

    def of_slices(self, parts: Sequence[Slice]) -> Iterator[Batch]:
        """The batch of each slice, in order."""
        for part, reading in zip(parts, self._read(parts), strict=True):
            yield self._batch(part, reading)

    def _batch(self, part: Slice, reading: Reading) -> Batch:
        """What the model is given for one slice."""
        dataset, device = self.latents.dataset, self.compute.device
        mean, logvar, pixels, mask = (each if each is None else each.to(device, non_blocking=True) for each in reading)
        if pixels is not None:
            mean, logvar = self.vae.encode_surely(pixels)
            self.latents.keep(part.samples, part.epoch, mean, logvar)
        assert mean is not None and logvar is not None
        weights = [sample.loss_weight * self.weigh(sample.picture.caption) / part.count for sample in part.samples]
        sizes = [sizes_of(sample.picture, dataset.view_of(sample, part.epoch)) for sample in part.samples]
        return Batch(
            mean=mean,
            logvar=logvar,
            captions=[dataset.caption_of(sample, part.epoch, part.step, self.plan.steps) for sample in part.samples],
            weights=torch.tensor(weights).to(device, non_blocking=True),
            draws=[dataset.draw_seed(sample, part.epoch) for sample in part.samples],
            mask=mask,
            of_class=[sample.is_reg for sample in part.samples],
            names=[str(sample.picture.path) for sample in part.samples],
            sizes=torch.tensor(sizes, dtype=torch.float32).to(device, non_blocking=True),
        )

    def _read(self, parts: Sequence[Slice]) -> Iterator[Reading]:
        """What is read of each slice, in order, and where it takes a while, before it is needed."""
        if self.latents.is_resident:
            return (self.latents.read(part.samples, part.epoch) for part in parts)
        if not self.workers:
            return self._read_by_threads(parts)
        pinned = self.compute.device.type == "cuda"
        slices, deaf = _Slices(self.latents, parts), leave_signals_to_the_run
        with signals_later():
            return iter(DataLoader(slices, None, num_workers=self.workers, pin_memory=pinned, worker_init_fn=deaf))

    def _read_by_threads(self, parts: Sequence[Slice]) -> Iterator[Reading]:
        waiting: deque[Future[Reading]] = deque()
        pool = ThreadPoolExecutor(THREADS)
        try:
            for part in parts:
                waiting.append(pool.submit(self.latents.read, part.samples, part.epoch))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def open_batches(
    settings: Settings, dataset: Dataset, vae: Vae, caches: Caches | None, plan: Plan, compute: Compute
) -> Batches:
    """The batches of a dataset, from the caches, or by the VAE where there are none."""
    latents = Latents(dataset, caches, compute.device)
    return Batches(vae, latents, plan, compute, settings.max_data_loader_n_workers, caption_weigher(settings))
