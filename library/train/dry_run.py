"""What a run would do and need, without doing it."""

from library.data.dataset import Dataset
from library.device import Compute
from library.log import say
from library.settings import Settings
from library.train.memory import predicted_peak_gb
from library.train.model import Model
from library.train.plan import Plan
from library.train.remedies import advice, usable_gb
from library.train.room import as_megabytes
from library.train.saves import output_bytes


def describe_run(settings: Settings, model: Model, compute: Compute, dataset: Dataset, plan: Plan) -> int:
    """Says what would be trained and the memory it and room it would take; returns the exit status, 0."""
    learned = model.learner.learned
    for part, layers in learned.layers.items():
        count = sum(parameter.numel() for parameter in learned.parameters(part))
        say(f"{part}: {count:,} trained parameters in {len(layers)} layers.")
    shapes, usable = list(dataset.shapes), usable_gb(compute.device)
    peak = predicted_peak_gb(model, compute, settings, shapes)
    say(f"predicted peak memory while training: {peak:.2f} GB on {compute.device.type}.")
    if peak > usable:
        say(f"only {usable:.2f} GB can be used there now: {advice(model, compute, settings, shapes, usable)}")
    say(f"predicted room for files and states: {as_megabytes(output_bytes(settings, model, plan, compute))}.")
    say("dry_run: everything is in order; nothing was trained or written.")
    return 0
