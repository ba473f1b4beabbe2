"""Going on from a saved state, exactly as if the run had never stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from library.errors import InputError
from library.log import say
from library.settings import Settings
from library.train.events import Events
from library.train.plan import Plan
from library.train.state import State, load_state, newest_state


def find_state(settings: Settings, plan: Plan, identity: Mapping[str, Any]) -> State | None:
    """The state that `resume` names, or with "auto" the newest one of this output name, if there is any.

    Raises InputError if it is damaged, made with other settings, or leaves nothing to do.
    """
    if not settings.resume:
        return None
    if settings.resume == "auto":
        folder = newest_state(settings.output_dir, settings.output_name)
        if folder is None:
            say(f"resume: there is no state of {settings.output_name} in {settings.output_dir} yet; starting anew.")
            return None
    else:
        folder = Path(settings.resume)
    state = load_state(folder, identity)
    step = state.progress["step"]
    if step >= plan.steps:
        raise InputError(
            f"resume: {folder} is at step {step} already, and this run ends at step {plan.steps}; "
            "raise max_train_epochs or max_train_steps to go on."
        )
    say(f"going on from {folder}, step {step} of {plan.steps}.")
    return state


def restore(state: State, events: Events) -> int:
    """Puts weights, optimizer and curves back; returns the number of finished steps."""
    events.training.model.learner.restore(state.weights, state.optimizer)
    events.report.restore(state.progress["report"])
    events.outputs.restore(state.progress["written"])
    return int(state.progress["step"])
