"""A loss that can be compared between two moments of a run: the same pictures, noise and timesteps each time."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from library.data.dataset import Dataset
from library.device import Compute
from library.settings import Settings
from library.train.batches import Batches, Slice
from library.train.compiling import uncompiled
from library.train.model import Model
from library.train.objective import plain_objective
from library.train.sharding import padded
from library.train.step import Batch, Objective

# Parts of the schedule at which each picture is looked at, from almost clean to almost noise.
FRACTIONS = (0.125, 0.375, 0.625, 0.875)


def validation_slices(dataset: Dataset, limit: int | None) -> list[Slice]:
    """The held-out samples in batches of one size each; at most `limit` batches."""
    # A count of 1 leaves every loss its full weight.
    return [Slice(samples, epoch=0, count=1) for samples in dataset.plan(0, times=1)][:limit]


@dataclass(frozen=True)
class Validation:
    """What is looked at, and how: `objective` is the training's judged by `plain_objective`, so that runs compare."""

    batches: Batches
    parts: Sequence[Slice]
    objective: Objective

    def loss(self, model: Model, compute: Compute) -> float:
        """Mean squared error over all pictures and `FRACTIONS`; the same on every process."""
        mine = self.parts[compute.rank :: compute.world_size]
        total = torch.zeros(2, device=compute.device)
        modules = (model.unet, *model.reader.encoders)
        with torch.no_grad(), uncompiled(), evaluating(*modules), model.number_format(compute):
            batches: Iterable[Batch] = self.batches.of_slices(mine)
            if compute.shards:
                batches = padded(list(batches), model.channels, compute)
            for batch in batches:
                condition = model.reader.read(batch.captions)
                for fraction in FRACTIONS:
                    timesteps = torch.full((len(batch.draws),), int(fraction * self.objective.schedule.steps))
                    question = self.objective.question(model.family, batch, timesteps)
                    losses = self.objective.losses(model.family, model.unet, batch, condition, question)
                    total += torch.stack((losses.sum(), batch.weights.count_nonzero()))
        loss, count = compute.sum_over_processes(total).tolist()
        return float(loss / count)


def make_validation(settings: Settings, batches: Batches | None, objective: Objective) -> Validation | None:
    """The validation of a run, if there are pictures for one."""
    if batches is None:
        return None
    slices = validation_slices(batches.latents.dataset, settings.max_validation_steps)
    return Validation(batches, slices, plain_objective(objective))


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Modules without dropout for a while, then as they were."""
    before = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.train(training)
