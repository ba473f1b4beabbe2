"""How long a run is and what it will do, counted before anything is trained."""

import math
from dataclasses import dataclass

from library.data.dataset import Dataset
from library.errors import InputError
from library.settings import Settings


@dataclass(frozen=True)
class Plan:
    """The length of a run. A step is one update of the weights, from one effective batch."""

    pictures: int
    samples_per_epoch: int
    batch_size: int
    accumulation: int
    world_size: int
    steps_per_epoch: int
    steps: int

    @property
    def effective_batch(self) -> int:
        """Samples that one step learns from, over all processes and accumulated batches."""
        return self.batch_size * self.accumulation * self.world_size

    @property
    def epochs(self) -> int:
        """Epochs begun; the last one may be cut short by the number of steps."""
        return math.ceil(self.steps / self.steps_per_epoch)

    def position(self, step: int) -> tuple[int, int]:
        """The epoch (from 0) and the batch in it that comes after `step` finished steps."""
        return divmod(step, self.steps_per_epoch)


def make_plan(settings: Settings, dataset: Dataset, world_size: int) -> Plan:
    """Counts steps and epochs.

    `max_train_epochs` beats `max_train_steps`, as in sd-scripts; `max_steps_per_photo` then caps the steps at
    pictures x that number.
    """
    effective = settings.train_batch_size * settings.gradient_accumulation_steps * world_size
    per_epoch = dataset.steps_per_epoch(effective)
    steps = settings.max_train_steps
    if settings.max_train_epochs:
        steps = settings.max_train_epochs * per_epoch
    pictures = dataset.picture_count(is_reg=False)
    if settings.max_steps_per_photo:
        steps = min(steps, pictures * settings.max_steps_per_photo)
    if steps < 1:
        raise InputError(f"there is nothing to train: {pictures} pictures make {steps} steps.")
    return Plan(
        pictures=pictures,
        samples_per_epoch=dataset.sample_count,
        batch_size=settings.train_batch_size,
        accumulation=settings.gradient_accumulation_steps,
        world_size=world_size,
        steps_per_epoch=per_epoch,
        steps=steps,
    )


def every_steps(settings: Settings, plan: Plan) -> int | None:
    """After how many epochs a numbered file is written, from `save_every_n_epochs` or `save_n_epoch_ratio`."""
    if settings.save_n_epoch_ratio:
        return max(1, plan.epochs // settings.save_n_epoch_ratio)
    return settings.save_every_n_epochs
