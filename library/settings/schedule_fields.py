"""The settings of the learning rate's course."""

from dataclasses import dataclass

from library.lookup import LR_SCHEDULES
from library.settings.rules import option

RELATIVE = "it is the course of Adafactor's relative_step, which is off; constant is the usual one beside Adafactor"


@dataclass(frozen=True)
class ScheduleFields:
    """The course of the learning rate."""

    lr_scheduler: str = option(
        "constant",
        "The course of the learning rate.",
        choices=tuple(LR_SCHEDULES),
        refusals={"adafactor": RELATIVE},
    )
    lr_warmup_steps: int | float = option(
        0, "Steps in which the rate rises from 0; a number below 1 is a part of the run.", low=0
    )
    lr_decay_steps: int | float | None = option(
        None,
        "Steps at the end in which the rate falls, after it has stayed as it was; a number below 1 is a part of the "
        "run, and unset means that it falls from the warmup on.",
        low=0,
        zero_is_unset=True,
    )
    lr_scheduler_num_cycles: int = option(
        1, "The restarts of cosine_with_restarts, or the half waves of cosine_with_min_lr.", low=1
    )
    lr_scheduler_power: float = option(1.0, "The power of the polynomial course.", low=0)
    lr_scheduler_timescale: int | None = option(
        None,
        "The steps after which inverse_sqrt begins to fall; unset means those of the warmup, or 10000.",
        low=1,
        zero_is_unset=True,
    )
    lr_scheduler_min_lr_ratio: float | None = option(
        None, "The part of the full rate that a falling course ends at.", low=0, high=1, zero_is_unset=True
    )
    lr_scheduler_type: str | None = option(
        None,
        "A class of torch.optim.lr_scheduler, or the dotted name of any other, in the place of lr_scheduler.",
    )
    lr_scheduler_args: tuple[str, ...] = option(
        (), "Options of lr_scheduler_type, each as key=value; of piecewise_constant step_rules=1:100,0.1:200,0.01."
    )
