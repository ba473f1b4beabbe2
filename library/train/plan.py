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
    batch_sizes: tuple[int, ...]  # on each device; several where folders say so, the smallest first
    accumulation: int
    world_size: int
    steps_per_epoch: int
    steps: int
    save_every_epochs: int | None

    @property
    def times(self) -> int:
        """Batches of a device that one step learns from, over all processes and accumulated ones."""
        return self.accumulation * self.world_size

    @property
    def effective_batch(self) -> int:
        """Samples that one step learns from, where folders differ the most."""
        return max(self.batch_sizes) * self.times

    @property
    def epochs(self) -> int:
        """Epochs begun; the last one may be cut short by the number of steps."""
        return math.ceil(self.steps / self.steps_per_epoch)

    def summary(self) -> str:
        """The plan in one line, for a person to check."""
        batch = " or ".join(map(str, self.batch_sizes))
        for number, word in ((self.accumulation, "accumulated"), (self.world_size, "processes")):
            batch += f" x {number} {word}" if number > 1 else ""
        length = f"{self.steps} steps in {self.epochs} epochs of {self.steps_per_epoch}"
        return f"{self.samples_per_epoch} samples an epoch in batches of {batch}: {length}."

    def position(self, step: int) -> tuple[int, int]:
        """The epoch (from 0) and the batch in it that comes after `step` finished steps."""
        return divmod(step, self.steps_per_epoch)


def make_plan(settings: Settings, dataset: Dataset, world_size: int) -> Plan:
    """Counts steps and epochs.

    `max_train_epochs` beats `max_train_steps`, as in sd-scripts; `max_steps_per_photo` then caps the steps at
    pictures x that number.
    """
    per_epoch = dataset.steps_per_epoch(settings.gradient_accumulation_steps * world_size)
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
        batch_sizes=tuple(sorted({shape.batch_size for shape in dataset.shapes})),
        accumulation=settings.gradient_accumulation_steps,
        world_size=world_size,
        steps_per_epoch=per_epoch,
        steps=steps,
        save_every_epochs=_save_every_epochs(settings, math.ceil(steps / per_epoch)),
    )


def _save_every_epochs(settings: Settings, epochs: int) -> int | None:
    """After how many epochs a numbered file is written; `save_n_epoch_ratio` asks for so many files in all."""
    if settings.save_n_epoch_ratio:
        return max(1, epochs // settings.save_n_epoch_ratio)
    return settings.save_every_n_epochs
