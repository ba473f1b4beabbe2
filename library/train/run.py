"""One run from its first step to its last: what is around the loop."""

import time
import traceback
from collections.abc import Sequence
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from library.data.dataset import Dataset
from library.device import Compute, free_memory, peak_memory_gb
from library.errors import is_full_memory
from library.log import say, warn
from library.models.drawing import Painter
from library.models.prompts import Prompt
from library.settings import Settings
from library.settings.writing import settings_text
from library.train.embedding_result import how_to_use
from library.train.events import Events
from library.train.health import Health
from library.train.loop import run_training
from library.train.memory import predicted_peak_gb
from library.train.model import Model
from library.train.preview import Previews
from library.train.remedies import advice, usable_gb, without_prediction
from library.train.report import Report
from library.train.resume import restore
from library.train.signals import StopRequest
from library.train.state import State, own_states
from library.train.training import Training
from library.train.vae import Vae

USED_UP = 0.95  # of what a run was predicted to take that ran out of memory: less has to be enough for another


def open_report(
    settings: Settings, compute: Compute, steps: int, state: State | None, health: Health | None = None
) -> Report:
    """The progress bar and TensorBoard; a resumed run goes on in the folder it began in, if that is still there.

    Where `logging_dir` is another than then, the run's curves go on there, in a folder of their own.
    """
    if not compute.is_main:
        return Report(None, steps, 0, settings.log_every_n_steps, compute.device, health)
    first = state.progress["step"] if state else 0
    before = Path(state.progress["log_folder"]) if state else None
    is_there = before and before.is_dir() and before.resolve().parent == settings.logging_dir.resolve()
    folder = before if is_there else new_log_folder(settings)
    report = Report(folder, steps, first, settings.log_every_n_steps, compute.device, health)
    report.text("settings", "```toml\n" + settings_text(settings) + "\n```")
    return report


def new_log_folder(settings: Settings) -> Path:
    """`{logging_dir}/{log_prefix}{name}-{date}`, one for each run so that TensorBoard can compare them."""
    name = f"{settings.log_prefix or ''}{settings.log_tracker_name or settings.output_name}"
    first = settings.logging_dir / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    # Two runs may begin in the same second.
    others = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return next(folder for folder in chain([first], others) if not folder.exists())


def make_previews(prompts: Sequence[Prompt], model: Model, vae: Vae, compute: Compute) -> Previews | None:
    """The previews of a run, if there are prompts to draw."""
    if not prompts:
        return None

    def open_painter() -> Painter:
        # The reader knows the prompts, so that the painter needs no text encoders of its own.
        return Painter(model.family, vae.module, [], model.unet)

    return Previews(open_painter, prompts, model.reader, compute)


def _tell_what_is_left(settings: Settings) -> None:
    """After a run that cannot go on: where another may begin."""
    newest = next(own_states(settings.output_dir, settings.output_name), None)
    if newest:
        warn(f'what was saved before is whole; resume = "auto" goes on from {newest}.')


def _name_remedies(error: BaseException, settings: Settings, training: Training, dataset: Dataset) -> None:
    """Adds to an error that says that memory is full which settings are predicted to fit.

    Of a model in slices nothing is predicted: to ask it, all processes would have to come here.
    """
    if training.compute.shards:
        return
    remedy = without_prediction(settings, training.compute)
    try:
        model, compute, shapes = training.model, training.compute, list(dataset.shapes)
        usable = usable_gb(compute.device)  # `ulimit -v` counts what is given back below as if it were still held
        # The step is over: what it held is not part of what another run would take.
        traceback.clear_frames(error.__traceback__)
        for weight in model.learner.parameters:
            weight.grad = None
        model.learner.optimizer.state.clear()
        free_memory(compute.device)
        peak = predicted_peak_gb(model, compute, settings, shapes)
        # What was predicted for these settings was not there, whatever is said to be free.
        limit = min(usable, USED_UP * peak)
        remedy = advice(model, compute, settings, shapes, limit)
        remedy = f"the memory is full, and {peak:.2f} GB are predicted for these settings; {remedy}"
    except Exception:  # the error itself is not to be hidden by another; of no memory, prediction has too little too
        pass
    if remedy:
        error.add_note(remedy)


def run(settings: Settings, events: Events, state: State | None, dataset: Dataset) -> int:
    """Trains from the start or from `state` to the end, and tells what was made; returns the exit status."""
    training, report = events.training, events.report
    if training.compute.is_main:
        events.outputs.begin()
    first = restore(state, events) if state else 0
    began, stop = time.perf_counter(), StopRequest()
    try:
        status = run_training(training, report, events, first, stop)
    except Exception as error:
        is_full = is_full_memory(error)
        if is_full or isinstance(error, FloatingPointError | OSError):
            _tell_what_is_left(settings)
        if is_full:
            _name_remedies(error, settings, training, dataset)
        raise
    finally:
        stop.close()
        report.close()
    minutes = (time.perf_counter() - began) / 60
    say(f"trained for {minutes:.1f} minutes, peak memory {peak_memory_gb(training.compute.device):.1f} GB.")
    if status == 0:
        kind, outputs = training.model.result.kind, events.outputs
        places = " and ".join(map(str, outputs.places(outputs.final_file)))
        say(f"The {kind} is {places}; its settings are in {outputs.settings_file}.")
        if word := how_to_use(settings, outputs.final_file.with_suffix("")):
            say(word)
    say(f"The curves: tensorboard --logdir {settings.logging_dir}")
    for path, reason in dataset.skipped.items():
        say(f"left out, because it cannot be read: {path} ({reason})")
    return status
