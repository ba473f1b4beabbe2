"""How many results and states a run will leave, and the bytes that they take."""

from dataclasses import dataclass
from pathlib import Path

from library.device import Compute
from library.settings import Settings
from library.settings.whole_checks import places
from library.train.memory import optimizer_bytes
from library.train.model import Model
from library.train.plan import Plan
from library.train.room import check_room
from library.train.state import State


@dataclass(frozen=True)
class Saves:
    """The most results and states of a run that lie on the disk at once, those counted that are still to come."""

    files: int
    states: int


def saves_to_come(settings: Settings, plan: Plan, first: int = 0) -> Saves:
    """What a run writes after `first` finished steps; before old files are cleared away, the new one is there."""
    epochs = steps = 0
    if plan.save_every_epochs:
        epochs = _moments(plan.steps_per_epoch * plan.save_every_epochs, first, plan.steps)
    if settings.save_every_n_steps:
        steps = _moments(settings.save_every_n_steps, first, plan.steps)
    last_epochs, last_steps = settings.save_last_n_epochs, settings.save_last_n_steps
    files = _kept(epochs, last_epochs) + _kept(steps, _in_span(settings, last_steps)) + 1
    states = int(settings.save_state or settings.save_state_on_train_end)
    if settings.save_state:
        states += _kept(epochs, settings.save_last_n_epochs_state or last_epochs)
        states += _kept(steps, _in_span(settings, settings.save_last_n_steps_state or last_steps))
    return Saves(files, states)


def output_bytes(settings: Settings, model: Model, plan: Plan, compute: Compute, first: int = 0) -> int:
    """What a run will write into `output_dir`, pictures left out."""
    saves, learner = saves_to_come(settings, plan, first), model.learner
    copies = len(places(settings, Path("any"))) * (2 if learner.averages else 1)
    averages = sum(each.nbytes for each in learner.averages.averages) if learner.averages else 0
    weights = sum(each.nbytes for each in learner.parameters)
    state = weights + averages + int(optimizer_bytes(model, settings, compute.device))
    return saves.files * copies * model.result.size() + saves.states * state


def check_output_room(settings: Settings, model: Model, plan: Plan, compute: Compute, state: State | None) -> None:
    """Raises InputError where the files and states that are still to come do not fit on the disk."""
    needed = output_bytes(settings, model, plan, compute, state.progress["step"] if state else 0)
    remedy = "Make room, choose another output_dir, or keep fewer with save_last_n_epochs or save_last_n_steps."
    check_room("output_dir", settings.output_dir, needed, remedy)


def _moments(every: int, first: int, last: int) -> int:
    """How many steps after `first` and before `last` are multiples of `every`."""
    return max(0, (last - 1) // every - first // every)


def _in_span(settings: Settings, span: int | None) -> int | None:
    """How many step files lie in a span of steps, both ends counted."""
    return span // settings.save_every_n_steps + 1 if span and settings.save_every_n_steps else None


def _kept(count: int, last: int | None) -> int:
    """How many of `count` files lie there at once if the `last` ones stay; the newest is written before one goes."""
    return min(count, last + 1) if last else count
