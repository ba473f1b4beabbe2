"""Learning-rate schedules of other libraries, by the dotted names of their classes."""

import inspect

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from library.errors import InputError
from library.optim.classes import check_names, dotted_target, load_class
from library.optim.optimizers import Arguments, parse_arguments

HOME = "torch.optim.lr_scheduler"  # of names without a dot


def custom_schedule(name: str, optimizer: Optimizer, arguments: Arguments = ()) -> LRScheduler:
    """A schedule of the class `name`, which is told the optimizer and the user's lr_scheduler_args.

    Raises InputError where there is no such class, it is no schedule by steps, or it refuses what it is told.
    """
    setting = "lr_scheduler_type"
    constructor = load_class(dotted_target(name if "." in name else f"{HOME}.{name}"), name, setting, LRScheduler)
    given = parse_arguments(arguments, "lr_scheduler_args")
    check_names("lr_scheduler_args", name, constructor, given)
    try:
        schedule: LRScheduler = constructor(optimizer, **given)
    except (AssertionError, KeyError, TypeError, ValueError) as refusal:
        raise InputError(f"lr_scheduler_args: {name} refuses its arguments: {refusal}.") from None
    if "metrics" in inspect.signature(schedule.step).parameters:
        raise InputError(f"{setting}: {name} goes by how well a run does and not by steps; choose another one.")
    return schedule
