"""Learning-rate schedules: what part of its full rate each group of parameters has at a step."""

import math
from collections.abc import Callable, Mapping

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from library.errors import InputError
from library.lookup import LR_SCHEDULES, find_name, nearest, resolve

# Where the polynomial ends, as a rate: the figure of transformers and diffusers.
POLYNOMIAL_END = 1e-7

Decay = Callable[[float, int, float, float], float]


def constant(progress: float, cycles: int, power: float, rate: float) -> float:
    """Always the full rate."""
    return 1.0


def linear(progress: float, cycles: int, power: float, rate: float) -> float:
    """A straight line to 0."""
    return max(0.0, 1.0 - progress)


def cosine(progress: float, cycles: int, power: float, rate: float) -> float:
    """Half a cosine wave to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5)."""
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def cosine_with_restarts(progress: float, cycles: int, power: float, rate: float) -> float:
    """`cycles` half waves, each from the full rate to 0 (the same paper's warm restarts)."""
    return cosine(cycles * progress % 1.0, cycles, power, rate) if progress < 1.0 else 0.0


def polynomial(progress: float, cycles: int, power: float, rate: float) -> float:
    """(1 - progress) ** power, from the full rate to POLYNOMIAL_END; `rate` is the full rate itself."""
    end = min(1.0, POLYNOMIAL_END / rate) if rate else 0.0
    return (1.0 - end) * (1.0 - min(progress, 1.0)) ** power + end


def lr_factor(step: int, steps: int, warmup_steps: int, decay: Callable[[float], float]) -> float:
    """The part of the full rate at a step (from 0): a line up, then `decay` of the progress (0 .. 1)."""
    if step < warmup_steps:
        return step / warmup_steps
    return decay((step - warmup_steps) / max(1, steps - warmup_steps))


def build_schedule(
    name: str,
    optimizer: Optimizer,
    steps: int,
    warmup_steps: int = 0,
    cycles: int = 1,
    power: float = 1.0,
    spans: Mapping[str, range] | None = None,
) -> LambdaLR:
    """The schedule of that name in `lookup.LR_SCHEDULES`, to be stepped after every step of the optimizer.

    The values are those of diffusers' `get_scheduler`, with two differences: "constant" too warms up if asked
    to, and "polynomial" ends every group at the same rate whatever rate it began with.

    Args:
        steps: length of the run in steps, warmup included
        warmup_steps: steps of the line up
        cycles: how often "cosine_with_restarts" starts
        power: the exponent of "polynomial"
        spans: by the name of a group, the steps that are its whole run, with a warmup in proportion; its rate is 0
            in all others
    """
    found = find_name(name, LR_SCHEDULES)
    if found is None:
        guess = nearest(name, LR_SCHEDULES)
        hint = f' (did you mean "{guess}"?)' if guess else ""
        raise InputError(f'lr_scheduler: "{name}" is not known{hint}; known are {", ".join(LR_SCHEDULES)}.')
    decay: Decay = resolve(LR_SCHEDULES[found])

    def factor_for(rate: float, span: range) -> Callable[[int], float]:
        warmup = warmup_steps if len(span) == steps else round(warmup_steps * len(span) / max(1, steps))

        def progress(done: float) -> float:
            return decay(done, cycles, power, rate)

        def factor(step: int) -> float:
            if step < span.start or span.stop <= step < steps:
                return 0.0
            return lr_factor(step - span.start, len(span), warmup, progress)

        return factor

    chosen = [(spans or {}).get(group.get("name", ""), range(steps)) for group in optimizer.param_groups]
    rates = [group["lr"] for group in optimizer.param_groups]
    return LambdaLR(optimizer, [factor_for(*each) for each in zip(rates, chosen, strict=True)])
