"""What a run is made of, and one step of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from library.device import Compute
from library.models.family import Condition
from library.seeds import derive_seed
from library.train.batches import Batches
from library.train.health import Health
from library.train.model import Model
from library.train.plan import Plan
from library.train.recorded import Recording
from library.train.sharding import padded
from library.train.step import Batch, Objective, Question


@dataclass(frozen=True)
class Training:
    """Model, data and mathematics of one run, on this process's device."""

    model: Model
    batches: Batches
    objective: Objective
    plan: Plan
    compute: Compute
    seed: int
    health: Health = field(default_factory=Health)
    recording: Recording | None = None

    def step(self, number: int, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """One update of the weights from this process's batches; returns the loss and the gradients' norm, scalars.

        `number` is the step's own, from 0. The loss is the mean over the effective batch: each sample's weight is
        already divided by their number.
        """
        learner = self.model.learner
        if self.compute.shards:
            batches = padded(batches, self.model.channels, self.compute)
        total = torch.zeros((), device=self.compute.device)
        for part, batch in enumerate(batches):
            # Dropout is the one draw that torch makes by itself; seeded, it is the same after a resume.
            torch.manual_seed(derive_seed(self.seed, "dropout", number, part, self.compute.rank))
            for losses in self._learn(batch):
                self.health.note(number + 1, batch.names, losses)
                total += losses.sum()
        norm = learner.step()
        return self.compute.sum_over_processes(total), norm

    def _learn(self, batch: Batch) -> Iterator[Tensor]:
        """Adds up the gradients of a batch; the losses of its samples, and those of the prior where the run has one.

        One after the other, so that what the first one's backward pass needs is gone before the second is computed.
        """
        model, objective = self.model, self.objective
        with model.number_format(self.compute):
            question = objective.question(model.family, batch)
            if model.teacher:
                question = model.teacher.instead(model.family, batch, question)
            condition = model.reader.read(batch.captions)
        if self.recording:
            yield self.recording.learn(self._pass, batch, condition, question)
        else:
            yield self._pass(batch, condition, question)
        if model.prior:
            with model.number_format(self.compute):
                losses = model.prior.losses(model, objective, batch, question)
            model.learner.backward(losses.sum())
            yield losses.detach()

    def _pass(self, batch: Batch, condition: Condition, question: Question) -> Tensor:
        """Forward and backward; the losses (batch,)."""
        model = self.model
        with model.number_format(self.compute):
            losses = self.objective.losses(model.family, model.unet, batch, condition, question)
        model.learner.backward(losses.sum())
        return losses.detach()
