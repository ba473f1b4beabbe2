"""Learning-rate schedules: what part of its full rate each group of parameters has at a step."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from library.errors import InputError
from library.lookup import LR_SCHEDULES, find_name, nearest, resolve

# Where the polynomial ends, as a rate: the figure of transformers and diffusers.
POLYNOMIAL_END = 1e-7
TIMESCALE = 10_000  # of inverse_sqrt without a warmup, that of transformers


@dataclass(frozen=True)
class Course:
    """The lengths and numbers of a schedule.

    `steps` are those of the run, of which the first `warmup` are a line up and the last `decay` the fall; without a
    number of these it falls from the warmup on. `cycles`, `power`, `timescale` and `rules` are for the schedules that
    have such; those that fall end at the part `lowest` of the full rate.
    """

    steps: int
    warmup: int = 0
    decay: int | None = None
    cycles: int = 1
    power: float = 1.0
    timescale: int | None = None
    lowest: float | None = None
    rules: str = ""

    def progress(self, step: int) -> float:
        """How much of the fall is done at a step, 0 .. 1."""
        start = self.warmup if self.decay is None else max(self.warmup, self.steps - self.decay)
        return min(1.0, max(0, step - start) / max(1, self.steps - start))

    def lifted(self, part: float) -> float:
        """`part` (0 .. 1) of the way between the lowest rate and the full one."""
        lowest = self.lowest or 0.0
        return lowest + (1.0 - lowest) * part

    def within(self, span: range) -> "Course":
        """The same course in fewer steps, warmup and fall in proportion."""
        if len(span) == self.steps:
            return self
        share = len(span) / max(1, self.steps)
        decay = None if self.decay is None else round(self.decay * share)
        return replace(self, steps=len(span), warmup=round(self.warmup * share), decay=decay)


Shape = Callable[[Course, int, float], float]


def constant(course: Course, step: int, rate: float) -> float:
    """Always the full rate."""
    return 1.0


def linear(course: Course, step: int, rate: float) -> float:
    """A straight line down."""
    return course.lifted(1.0 - course.progress(step))


def cosine(course: Course, step: int, rate: float) -> float:
    """Half a cosine wave (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5)."""
    return course.lifted(_half_wave(course.progress(step)))


def cosine_with_restarts(course: Course, step: int, rate: float) -> float:
    """`cycles` half waves, each from the full rate down (the same paper's warm restarts)."""
    progress = course.progress(step)
    return course.lifted(_half_wave(course.cycles * progress % 1.0) if progress < 1.0 else 0.0)


def cosine_with_min_lr(course: Course, step: int, rate: float) -> float:
    """`cycles` half waves, down and up again in turns, above the lowest rate."""
    return course.lifted(_half_wave(course.cycles * course.progress(step)))


def polynomial(course: Course, step: int, rate: float) -> float:
    """(1 - progress) ** power, from the full rate to POLYNOMIAL_END; `rate` is the full rate itself."""
    end = min(1.0, POLYNOMIAL_END / rate) if rate else 0.0
    course = course if course.lowest is not None else replace(course, lowest=end)
    return course.lifted((1.0 - course.progress(step)) ** course.power)


def inverse_sqrt(course: Course, step: int, rate: float) -> float:
    """1 / sqrt of the time since the warmup in units of `timescale` (Vaswani et al. 2017, arXiv 1706.03762, eq. 3)."""
    timescale = course.timescale or course.warmup or TIMESCALE
    return 1.0 / math.sqrt((step - course.warmup + timescale) / timescale)


def piecewise_constant(course: Course, step: int, rate: float) -> float:
    """The factor of the first rule whose end has not come."""
    *pieces, last = parse_rules(course.rules, course.steps)
    return next((factor for factor, end in pieces if step < end), last[0])


def rex(course: Course, step: int, rate: float) -> float:
    """(1 - z) / (1 / 2 + (1 - z) / 2), slow at first, steep at the end (Chen et al. 2021, arXiv 2107.04197, eq. 1)."""
    left = 1.0 - course.progress(step)
    return course.lifted(left / (0.5 + 0.5 * left))


def parse_rules(rules: str, steps: int) -> list[tuple[float, float]]:
    """ "1:100,0.1:200,0.01" as factors of the full rate and the steps that they end before, the last one endless.

    An end below 1 is a part of the run's `steps`. Raises InputError for anything else.
    """
    pieces = []
    try:
        *pairs, last = [piece.split(":") for piece in rules.split(",")]
        for factor, end in pairs:
            number = float(end)
            if not 0 < number < math.inf:
                raise ValueError(end)
            pieces.append((float(factor), number * steps if number < 1 else number))
        pieces.append((float(last[0]) if len(last) == 1 else math.nan, math.inf))
    except ValueError:
        pieces = []
    ends = [end for _, end in pieces]
    if not pieces or ends != sorted(set(ends)) or not all(0 <= factor < math.inf for factor, _ in pieces):
        raise InputError(
            f"lr_scheduler_args: step_rules is {rules!r}; write factors of the rate, each but the last with the step "
            "that it ends before, such as step_rules=1:100,0.1:200,0.01."
        )
    return pieces


def lr_factor(shape: Shape, course: Course, step: int, rate: float) -> float:
    """The part of the full rate at a step (from 0): a line up, then the shape of the course."""
    if step < course.warmup:
        return step / course.warmup
    return shape(course, step, rate)


def build_schedule(
    name: str, optimizer: Optimizer, course: Course, spans: Mapping[str, range] | None = None
) -> LambdaLR:
    """The schedule of that name in `lookup.LR_SCHEDULES`, to be stepped after every step of the optimizer.

    The values are those of diffusers' and transformers' `get_scheduler`, with these differences: "constant" and
    "piecewise_constant" too warm up if asked to, warmups begin at 0 whatever the lowest rate is, all that falls can
    end at a lowest rate and fall in the last steps alone, and "polynomial" ends every group at the same rate whatever
    rate it began with.

    Args:
        spans: by the name of a group, the steps that are its whole run, with all lengths in proportion; its rate is 0
            in all others
    """
    found = find_name(name, LR_SCHEDULES)
    if found is None:
        guess = nearest(name, LR_SCHEDULES)
        hint = f' (did you mean "{guess}"?)' if guess else ""
        raise InputError(f'lr_scheduler: "{name}" is not known{hint}; known are {", ".join(LR_SCHEDULES)}.')
    shape: Shape = resolve(LR_SCHEDULES[found])
    if shape is piecewise_constant:
        parse_rules(course.rules, course.steps)

    def factor_for(rate: float, span: range) -> Callable[[int], float]:
        own = course.within(span)

        def factor(step: int) -> float:
            if step < span.start or span.stop <= step < course.steps:
                return 0.0
            return lr_factor(shape, own, step - span.start, rate)

        return factor

    chosen = [(spans or {}).get(group.get("name", ""), range(course.steps)) for group in optimizer.param_groups]
    rates = [group["lr"] for group in optimizer.param_groups]
    return LambdaLR(optimizer, [factor_for(*each) for each in zip(rates, chosen, strict=True)])


def _half_wave(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))
