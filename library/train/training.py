"""What a run is made of, and one step of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from library.device import Compute
from library.seeds import derive_seed
from library.train.batches import Batches
from library.train.model import Model
from library.train.plan import Plan
from library.train.step import Batch, Objective


@dataclass(frozen=True)
class Training:
    """Model, data and mathematics of one run, on this process's device."""

    model: Model
    batches: Batches
    objective: Objective
    plan: Plan
    compute: Compute
    seed: int

    def step(self, number: int, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
        """One update of the weights from this process's batches; returns the loss and the gradients' norm, scalars.

        `number` is the step's own, from 0. The loss is the mean over the effective batch: each sample's weight is
        already divided by their number.
        """
        model = self.model
        total = torch.zeros((), device=self.compute.device)
        for part, batch in enumerate(batches):
            # Dropout is the one draw that torch makes by itself; seeded, it is the same after a resume.
            torch.manual_seed(derive_seed(self.seed, "dropout", number, part, self.compute.rank))
            with self.compute.autocast():
                condition = model.reader.read(batch.captions)
                losses = self.objective.losses(model.family, model.unet, batch, condition)
            loss = losses.sum()
            model.learner.backward(loss)
            total += loss.detach()
        norm = model.learner.step()
        return self.compute.sum_over_processes(total), norm
