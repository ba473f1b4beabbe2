"""Optimizers by the names that people know; each one's own constructor decides what it can be told."""

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from library.errors import InputError
from library.lookup import OPTIMIZERS, find_name, nearest
from library.optim.classes import check_names, dotted_target, load_class

# The user's optimizer_args: "weight_decay=0.01" each, or values (or their text) by name.
Arguments = Sequence[str] | Mapping[str, Any]


# What an optimizer is told unless the user says otherwise. Of Adafactor the steps that shrink by themselves and follow
# the size of the weights are off: a LoRA's second matrix begins at zero, where steps in proportion would hardly begin.
NESTEROV = {"momentum": 0.9, "nesterov": True}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "AdamW": {"fused": True},
    "Adafactor": {"scale_parameter": False, "relative_step": False, "warmup_init": False},
    "SGDNesterov": NESTEROV,
    "SGDNesterov8bit": NESTEROV,
}


class Recipe(NamedTuple):
    """An optimizer's class, what it is told unless the user says otherwise, and how it takes learning rates."""

    constructor: Callable[..., Optimizer]
    defaults: Mapping[str, Any]
    finds_own_rate: bool = False
    one_rate: bool = False  # of all groups; their steps stop at different ones, or pass over all but the first


def build_optimizer(name: str, groups: Sequence[Mapping[str, Any]], arguments: Arguments = ()) -> Optimizer:
    """The optimizer of that name in `lookup.OPTIMIZERS`, or of the class with that dotted name, ready to step.

    Args:
        groups: {"params": list of parameters, "lr": rate, "name": group's name} each
        arguments: the user's optimizer_args; text is read as a Python value ("0.01", "0.9,0.99", "True")

    Raises InputError for an argument that the optimizer does not have, naming those it has, and for a value
    that it refuses.
    """
    title, recipe = _recipe(name)
    given = parse_arguments(arguments)
    check_names("optimizer_args", title, recipe.constructor, given)
    rates = {group["lr"] for group in groups}
    if recipe.one_rate and len(rates - {0}) > 1:
        listed = ", ".join(str(rate) for rate in sorted(rates))
        raise InputError(f"{title} finds the step size by itself and needs one learning rate for all, not {listed}.")
    # A user who chooses another implementation of the same optimizer gets it.
    chosen = {"foreach", "fused", "capturable", "differentiable"} & given.keys()
    defaults = {key: value for key, value in recipe.defaults.items() if not (key == "fused" and chosen)}
    try:
        optimizer = recipe.constructor([dict(group) for group in groups], lr=max(rates), **(defaults | given))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as refusal:
        raise _refused(title, max(rates), given, refusal) from None
    if averages_itself(optimizer):
        optimizer.train()  # type: ignore[attr-defined]
    return optimizer


def check_optimizer(name: str, arguments: Arguments = (), rate: float = 1e-4, warms_up: bool = False) -> None:
    """Builds the optimizer for one small parameter and takes a step, before anything large is loaded.

    Raises InputError as `build_optimizer` does, also for values that only a step finds wrong, and where it `warms_up`
    from a rate of 0 and the optimizer cannot take a step at that.
    """
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    parameter.grad = torch.ones(2, 2)
    optimizer = build_optimizer(name, [{"params": [parameter], "lr": rate, "name": "check"}], arguments)
    if warms_up:
        optimizer.param_groups[0]["lr"] = 0.0
    try:
        optimizer.step()
    except ZeroDivisionError:
        raise InputError(
            f"optimizer_type: {_recipe(name)[0]} cannot begin with a learning rate of 0; leave out lr_warmup_steps."
        ) from None
    except (IndexError, RuntimeError, TypeError, ValueError) as refusal:
        raise _refused(_recipe(name)[0], rate, parse_arguments(arguments), refusal) from None


def finds_own_rate(name: str) -> bool:
    """Whether an optimizer finds the step size by itself, so that a learning rate is a factor of it, normally 1."""
    return _recipe(name)[1].finds_own_rate


def needs_one_rate(name: str) -> bool:
    """Whether an optimizer has one learning rate for all groups."""
    return _recipe(name)[1].one_rate


def averages_itself(optimizer: Optimizer) -> bool:
    """Whether an optimizer has one set of weights to learn at and another, their average, to be used (schedule-free).

    Its `train()` and `eval()` put the one or the other into the parameters.
    """
    return all(callable(getattr(optimizer, word, None)) for word in ("train", "eval"))


@contextmanager
def averaged(optimizer: Optimizer) -> Iterator[None]:
    """Within it, the parameters of an optimizer that averages by itself are the averages; those of others stay.

    Afterwards every bit is as before: going to and fro in floating point would not be exact, so that a run with
    previews would not learn what one without them does.
    """
    if not averages_itself(optimizer):
        yield
        return
    before = [(weight, weight.detach().clone()) for group in optimizer.param_groups for weight in group["params"]]
    optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        optimizer.train()  # type: ignore[attr-defined]
        with torch.no_grad():
            for weight, value in before:
                weight.copy_(value)


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Each group's rate by its name; of those that find their own the one they step with, d times the rate."""
    return {
        group.get("name", str(number)): float(group["lr"] * group.get("d", 1.0))
        for number, group in enumerate(optimizer.param_groups)
    }


def describe(optimizer: Optimizer, arguments: Arguments = ()) -> str:
    """The optimizer as sd-scripts writes it into a file: module.Class(argument=value,...)."""
    given = ",".join(f"{key}={value}" for key, value in parse_arguments(arguments).items())
    return f"{type(optimizer).__module__}.{type(optimizer).__name__}({given})"


def parse_arguments(arguments: Arguments, setting: str = "optimizer_args") -> dict[str, Any]:
    """The user's optimizer_args, or those of another setting, as Python values by name."""
    if isinstance(arguments, Mapping):
        pairs = list(arguments.items())
    else:
        pairs = [(key.strip(), value) for key, _, value in (each.partition("=") for each in arguments)]
    return {key: _value(key, value, setting) for key, value in pairs}


def _value(key: str, value: Any, setting: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        raise InputError(
            f'{setting}: "{key}={value}" is not understood; write key=value with a number, True, False, '
            "None or a pair such as 0.9,0.99."
        ) from None


def _recipe(name: str) -> tuple[str, Recipe]:
    found = find_name(name, OPTIMIZERS)
    if found is None and "." not in name:
        guess = nearest(name, OPTIMIZERS)
        hint = f' (did you mean "{guess}"?)' if guess else ""
        raise InputError(f'optimizer_type: "{name}" is not known{hint}; known are {", ".join(OPTIMIZERS)}.')
    title = found or name
    constructor = load_class(OPTIMIZERS[found] if found else dotted_target(name), title, "optimizer_type", Optimizer)
    # All that find their own step size are told the first guess at it, d0; ProdigyPlusScheduleFree alone, which has
    # split_groups, multiplies it with each group's own rate.
    known = inspect.signature(constructor).parameters
    finds_own = "d0" in known
    return title, Recipe(constructor, DEFAULTS.get(title, {}), finds_own, finds_own and "split_groups" not in known)


def _refused(title: str, rate: float, given: Mapping[str, Any], refusal: Exception) -> InputError:
    told = ", ".join(f"{key}={value}" for key, value in {"lr": rate, **given}.items())
    return InputError(
        f"optimizer_args: {title} refuses its arguments ({told}): {refusal or 'a value is out of range'}."
    )
