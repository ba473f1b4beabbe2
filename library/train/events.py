"""What happens between the steps: validation, previews, checkpoints and states."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from library.adapters.metadata import TrainingFacts
from library.files import naming_full_disk
from library.settings import Settings
from library.train.outputs import Outputs, state_folder
from library.train.preview import Previews
from library.train.report import Report
from library.train.sharding import let_go
from library.train.state import State
from library.train.training import Training
from library.train.validation import Validation


@dataclass(frozen=True)
class Events:
    """The moments of a run. Every process calls them, and only the main one writes.

    `facts` are those of the metadata that hold for the whole run, `identity` what a resumed run must share.
    """

    settings: Settings
    training: Training
    report: Report
    outputs: Outputs
    previews: Previews | None
    validation: Validation | None
    facts: TrainingFacts
    identity: Mapping[str, Any]

    def at_start(self) -> None:
        """Before the first step: how the base model itself does, to compare with."""
        self._validate(0)
        if self.settings.sample_at_first:
            self._preview(0, "000000")

    def after_step(self, step: int) -> None:
        """What the settings `..._every_n_steps` ask for."""
        settings = self.settings
        if _is_due(step, settings.validate_every_n_steps):
            self._validate(step)
        if _is_due(step, settings.sample_every_n_steps):
            self._preview(step, f"{step:06d}")

    def after_epoch(self, step: int, epoch: int) -> None:
        """What the settings `..._every_n_epochs` ask for, when `epoch` epochs are finished."""
        settings = self.settings
        self.report.epoch(step)
        if _is_due(epoch, settings.validate_every_n_epochs):
            self._validate(step)
        if _is_due(epoch, settings.sample_every_n_epochs):
            self._preview(step, f"e{epoch:06d}")

    def save_due(self, step: int) -> None:
        """What the settings `save_every_n_...` ask for, after all else of the step.

        A run that goes on from one of the states does not come here again: so they are written when all results are.
        """
        due = self._due(step)
        if not due:
            return
        self.outputs.note(due, step, self.training.plan.position(step)[0])
        self._save(due, step, self.settings.save_state)
        if self.training.compute.is_main:
            self.outputs.clear()

    def at_resume(self, step: int) -> None:
        """Finishes what the run may have been killed in: states beside the one that it goes on from, and clearing."""
        with self.training.model.learner.gathered():
            if not self.training.compute.is_main:
                return
            missing = [path for path in self._due(step) if not state_folder(path).exists()]
            if self.settings.save_state:
                self._save_states(missing, step)
            self.outputs.clear()

    def at_stop(self, step: int) -> None:
        """A signal came: keeps the result of now and the state to go on from."""
        self._save([self.outputs.step_file(step)], step, with_state=True)

    def at_end(self, step: int) -> None:
        """The finished result."""
        settings = self.settings
        self._save([self.outputs.final_file], step, settings.save_state or settings.save_state_on_train_end)

    def _due(self, step: int) -> list[Path]:
        """The numbered results of a step; that of the last one is the finished result."""
        plan, found = self.training.plan, []
        if step == plan.steps:
            return []
        if _is_due(step, self.settings.save_every_n_steps):
            found.append(self.outputs.step_file(step))
        epoch, rest = plan.position(step)
        if rest == 0 and _is_due(epoch, plan.save_every_epochs):
            found.append(self.outputs.epoch_file(epoch))
        return found

    def _validate(self, step: int) -> None:
        if self.validation is None:
            return
        with self._looking():
            loss = self.validation.loss(self.training.model, self.training.compute)
        self.report.scalars(step, {"loss/validation": loss})
        self.report.say(f"step {step}: validation loss {loss:.4f}")

    def _preview(self, step: int, moment: str) -> None:
        compute = self.training.compute
        if self.previews is None:
            return
        # Of a model in slices all have to draw the same, for each needs the others' slices.
        if compute.is_main or compute.shards:
            with self._looking():
                self._draw(self.previews, step, moment)
        compute.wait()

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Within it, the model is as it is to be used, and does not learn."""
        with self.training.model.learner.averaged():
            yield
        let_go(self.training.model.unet)

    def _draw(self, previews: Previews, step: int, moment: str) -> None:
        """Draws the previews of now; the main process keeps them."""
        for preview in previews.draw():
            if not self.training.compute.is_main:
                continue
            path = self.outputs.sample_file(moment, preview.number, preview.prompt.seed)
            self.outputs.save_picture(path, preview)
            self.report.picture(step, f"preview/{preview.number:02d}", preview.image, preview.prompt.text)

    def _save(self, paths: Sequence[Path], step: int, with_state: bool) -> None:
        """Writes the result of now under these names, and the state beside each if asked for."""
        self.report.read()  # a loss that is no number stops the run here, before a broken file replaces a good one
        with self.training.model.learner.gathered():
            if self.training.compute.is_main:
                self._write_all(paths, step, with_state)
        self.training.compute.wait()

    def _write_all(self, paths: Sequence[Path], step: int, with_state: bool) -> None:
        """What the main process writes."""
        for path in paths:
            with naming_full_disk(path):
                self._save_result(path, step)
        if with_state:
            self._save_states(paths, step)

    def _save_result(self, path: Path, step: int) -> None:
        """Writes what was learned, and the average of the weights beside it where the run has one."""
        training = self.training
        epoch = training.plan.position(step)[0]
        losses = {"average": self.report.smoothed}
        facts = replace(self.facts, steps=step, epoch=epoch, finished_at=time.time(), losses=losses)
        with training.model.learner.averaged():
            self._write(self.outputs.places(path), facts)
        averages = training.model.learner.averages
        if averages:
            with averages.in_place():
                self._write(self.outputs.average_places(path), facts)

    def _save_states(self, paths: Sequence[Path], step: int) -> None:
        """Writes the state under each of these names."""
        for path in paths:
            with naming_full_disk(state_folder(path)):
                folder = self.outputs.save_state(path, self._state(step))
            self.report.say(f"step {step}: saved {folder} to resume from")

    def _write(self, places: Iterable[Path], facts: TrainingFacts) -> None:
        """Writes what the model is just now."""
        for place in places:
            self.training.model.result.write(place, facts)
            self.report.say(f"step {facts.steps}: saved {place}")

    def _state(self, step: int) -> State:
        learner = self.training.model.learner
        progress = {
            "step": step,
            "report": self.report.state(),
            "log_folder": str(self.report.folder),
            "written": self.outputs.remember(),
            "started_at": self.facts.started_at,
        }
        return State(learner.weights(), learner.state(), progress, self.identity)


def _is_due(number: int, every: int | None) -> bool:
    """Whether something that happens `every` so many is to happen at `number`."""
    return every is not None and number % every == 0
