"""What happens between the steps: validation, previews, checkpoints and states."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from library.adapters.metadata import TrainingFacts
from library.settings import Settings
from library.train.outputs import Outputs
from library.train.preview import Previews
from library.train.report import Report
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
        if _is_due(step, settings.save_every_n_steps) and step < self.training.plan.steps:
            path = self.outputs.step_file(step)
            self.outputs.note_step(step, path)
            self._save(path, step, settings.save_state)
            if self.training.compute.is_main:
                self.outputs.clear_steps(step)

    def after_epoch(self, step: int, epoch: int) -> None:
        """What the settings `..._every_n_epochs` ask for, when `epoch` epochs are finished."""
        settings, plan = self.settings, self.training.plan
        self.report.epoch(step)
        if _is_due(epoch, settings.validate_every_n_epochs):
            self._validate(step)
        if _is_due(epoch, settings.sample_every_n_epochs):
            self._preview(step, f"e{epoch:06d}")
        if _is_due(epoch, plan.save_every_epochs) and step < plan.steps:
            path = self.outputs.epoch_file(epoch)
            self.outputs.note_epoch(epoch, path)
            self._save(path, step, settings.save_state)
            if self.training.compute.is_main:
                self.outputs.clear_epochs()

    def at_stop(self, step: int) -> None:
        """A signal came: keeps the result of now and the state to go on from."""
        self._save(self.outputs.step_file(step), step, with_state=True)

    def at_end(self, step: int) -> None:
        """The finished result."""
        settings = self.settings
        self._save(self.outputs.final_file, step, settings.save_state or settings.save_state_on_train_end)

    def _validate(self, step: int) -> None:
        if self.validation is None:
            return
        with self.training.model.learner.averaged():
            loss = self.validation.loss(self.training.model, self.training.compute)
        self.report.scalars(step, {"loss/validation": loss})
        self.report.say(f"step {step}: validation loss {loss:.4f}")

    def _preview(self, step: int, moment: str) -> None:
        compute = self.training.compute
        if self.previews is None:
            return
        if compute.is_main:
            with self.training.model.learner.averaged():
                self._draw(self.previews, step, moment)
        compute.wait()

    def _draw(self, previews: Previews, step: int, moment: str) -> None:
        """Draws and keeps the previews of now."""
        for preview in previews.draw():
            path = self.outputs.sample_file(moment, preview.number, preview.prompt.seed)
            self.outputs.save_picture(path, preview)
            self.report.picture(step, f"preview/{preview.number:02d}", preview.image, preview.prompt.text)

    def _save(self, path: Path, step: int, with_state: bool) -> None:
        """Writes the result of now, and the state beside it if asked for."""
        training = self.training
        self.report.read()  # a loss that is no number stops the run here, before a broken file replaces a good one
        if training.compute.is_main:
            epoch = training.plan.position(step)[0]
            losses = {"average": self.report.smoothed}
            facts = replace(self.facts, steps=step, epoch=epoch, finished_at=time.time(), losses=losses)
            with training.model.learner.averaged():
                self._write(self.outputs.places(path), facts)
            averages = training.model.learner.averages
            if averages:
                with averages.in_place():
                    self._write(self.outputs.average_places(path), facts)
            if with_state:
                folder = self.outputs.save_state(path, self._state(step))
                self.report.say(f"step {step}: saved {folder} to resume from")
        training.compute.wait()

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
