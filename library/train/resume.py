"""Going on from a saved state, exactly as if the run had never stopped."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from library.errors import InputError
from library.log import say, warn
from library.settings import Settings
from library.train.events import Events
from library.train.outputs import NOTHING_WRITTEN
from library.train.plan import Plan
from library.train.state import DamagedState, State, identity_of, load_state, own_states, state_folders


def find_state(settings: Settings, plan: Plan, identity: Mapping[str, Any]) -> State | None:
    """The state that `resume` names, or with "auto" the newest one of this output name, if there is any.

    Raises InputError if it was made with other settings, if it is damaged, with "auto" only where no older one is
    whole, and if it leaves nothing to do.
    """
    if not settings.resume:
        return None
    found = saved_state(settings, identity)
    if found is None:
        say(f"resume: there is no state of {settings.output_name} in {settings.output_dir} yet; starting anew.")
        return None
    folder, state = found
    step = state.progress["step"]
    if step >= plan.steps:
        raise InputError(
            f"resume: {folder} is at step {step} already, and this run ends at step {plan.steps}; "
            "raise max_train_epochs or max_train_steps to go on."
        )
    say(f"going on from {folder}, step {step} of {plan.steps}.")
    if folder.resolve().parent != Path(settings.output_dir).resolve():
        # What lies under the same names in this run's own folder is somebody else's.
        state = replace(state, progress={**state.progress, "written": NOTHING_WRITTEN})
    return state


def saved_state(settings: Settings, identity: Mapping[str, Any]) -> tuple[Path, State] | None:
    """The state to go on from with its folder, or None; see `find_state`. A part of the identity may be asked for."""
    if settings.resume == "auto":
        return _newest(settings, identity)
    folder = Path(str(settings.resume))
    return folder, load_state(folder, identity)


def _newest(settings: Settings, identity: Mapping[str, Any]) -> tuple[Path, State] | None:
    """The newest whole state of this output name with its folder; None where there is none, not even a damaged one."""
    for folder in own_states(settings.output_dir, settings.output_name):
        try:
            return folder, load_state(folder, identity)
        except DamagedState as damage:
            warn(f"{damage} It is passed over.")
    if state_folders(settings.output_dir, settings.output_name):
        raise InputError(
            f"resume: every state of {settings.output_name} in {settings.output_dir} is damaged; delete these folders "
            "to start anew."
        )
    return None


def optimizer_before(settings: Settings) -> str | None:
    """The optimizer of the run that is gone on with; None where there is none, or no whole state of it."""
    folder = Path(settings.resume) if settings.resume else None
    if settings.resume == "auto":
        folder = next(own_states(settings.output_dir, settings.output_name), None)
    return identity_of(folder).get("optimizer_type") if folder else None


def as_resumed(settings: Settings) -> Settings:
    """The settings with the 8-bit optimizer that `memory = "auto"` may have chosen when the run began.

    So a run goes on where there is more memory, or less, than where it was begun.
    """
    before = optimizer_before(settings) if settings.memory == "auto" else None
    return replace(settings, optimizer_type=before) if before == f"{settings.optimizer_type}8bit" else settings


def restore(state: State, events: Events) -> int:
    """Puts weights, optimizer and curves back; returns the number of finished steps."""
    step = int(state.progress["step"])
    events.training.model.learner.restore(state.weights, state.optimizer)
    events.report.restore(state.progress["report"])
    events.outputs.restore(state.progress["written"])
    events.at_resume(step)
    return step
