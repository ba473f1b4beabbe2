"""Optimizers by the names that people know; each one's own constructor decides what it can be told."""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer

from library.errors import InputError
from library.lookup import OPTIMIZERS, find_name, nearest, resolve

# The user's optimizer_args: "weight_decay=0.01" each, or values (or their text) by name.
Arguments = Sequence[str] | Mapping[str, Any]


class Recipe(NamedTuple):
    """An optimizer's class, what it is told unless the user says otherwise, and if groups need one rate."""

    constructor: Callable[..., Optimizer]
    defaults: Mapping[str, Any]
    one_rate: bool = False


def adamw() -> Recipe:
    """Adam with decoupled weight decay (arXiv 1711.05101), in one fused kernel for all tensors."""
    return Recipe(torch.optim.AdamW, {"fused": True})


def adamw_8bit() -> Recipe:
    """AdamW whose two moments are kept in blocks of 8-bit numbers (arXiv 2110.02861)."""
    from bitsandbytes.optim import AdamW8bit

    return Recipe(AdamW8bit, {})


def lion() -> Recipe:
    """The sign of a momentum (arXiv 2302.06675); wants a third to a tenth of AdamW's learning rate."""
    from lion_pytorch import Lion

    return Recipe(Lion, {})


def lion_8bit() -> Recipe:
    """Lion whose momentum is kept in blocks of 8-bit numbers."""
    from bitsandbytes.optim import Lion8bit

    return Recipe(Lion8bit, {})


def adafactor() -> Recipe:
    """AdamW's second moment from row and column sums (arXiv 1804.04235), at the learning rate that is set.

    The paper's other parts, steps that shrink by themselves and follow the size of the weights, are off
    unless asked
    for: a LoRA's second matrix begins at zero, where steps in proportion to it would hardly begin.
    """
    from transformers.optimization import Adafactor

    return Recipe(Adafactor, {"scale_parameter": False, "relative_step": False, "warmup_init": False})


def prodigy() -> Recipe:
    """Adam that finds its own step size (arXiv 2306.06101); the learning rate multiplies it, normally 1."""
    from prodigyopt import Prodigy

    return Recipe(Prodigy, {}, one_rate=True)


def sgd_nesterov() -> Recipe:
    """Plain gradient descent with Nesterov's momentum."""
    return Recipe(torch.optim.SGD, {"momentum": 0.9, "nesterov": True})


def build_optimizer(name: str, groups: Sequence[Mapping[str, Any]], arguments: Arguments = ()) -> Optimizer:
    """The optimizer of that name in `lookup.OPTIMIZERS`.

    Args:
        groups: {"params": list of parameters, "lr": rate, "name": group's name} each
        arguments: the user's optimizer_args; text is read as a Python value ("0.01", "0.9,0.99", "True")

    Raises InputError for an argument that the optimizer does not have, naming those it has, and for a value
    that it refuses.
    """
    title, recipe = _recipe(name)
    given = parse_arguments(arguments)
    _check_arguments(title, recipe, given)
    rates = {group["lr"] for group in groups}
    if recipe.one_rate and len(rates - {0}) > 1:
        listed = ", ".join(str(rate) for rate in sorted(rates))
        raise InputError(
            f"{title} finds the step size by itself and needs one learning rate for all, not {listed}."
        )
    # A user who chooses another implementation of the same optimizer gets it.
    chosen = {"foreach", "fused", "capturable", "differentiable"} & given.keys()
    defaults = {key: value for key, value in recipe.defaults.items() if not (key == "fused" and chosen)}
    try:
        return recipe.constructor([dict(group) for group in groups], lr=max(rates), **(defaults | given))
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as refusal:
        raise _refused(title, max(rates), given, refusal) from None


def check_optimizer(name: str, arguments: Arguments = (), rates: Iterable[float] = (1e-4,)) -> None:
    """Builds the optimizer for a small parameter at each rate and takes a step, before anything large is loaded.

    Raises InputError as `build_optimizer` does, and also for values that only a step finds wrong.
    """
    groups = [{"params": [torch.nn.Parameter(torch.ones(2, 2))], "lr": rate, "name": str(rate)} for rate in set(rates)]
    for group in groups:
        group["params"][0].grad = torch.ones(2, 2)
    optimizer = build_optimizer(name, groups, arguments)
    try:
        optimizer.step()
    except (IndexError, RuntimeError, TypeError, ValueError) as refusal:
        rate = max(group["lr"] for group in groups)
        raise _refused(_recipe(name)[0], rate, parse_arguments(arguments), refusal) from None


def finds_own_rate(name: str) -> bool:
    """Whether an optimizer finds the step size by itself, and so needs one learning rate for all."""
    return _recipe(name)[1].one_rate


def learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Each group's rate by its name; of Prodigy the one it steps with, its estimate d times the rate."""
    return {
        group.get("name", str(number)): float(group["lr"] * group.get("d", 1.0))
        for number, group in enumerate(optimizer.param_groups)
    }


def describe(optimizer: Optimizer, arguments: Arguments = ()) -> str:
    """The optimizer as sd-scripts writes it into a file: module.Class(argument=value,...)."""
    given = ",".join(f"{key}={value}" for key, value in parse_arguments(arguments).items())
    return f"{type(optimizer).__module__}.{type(optimizer).__name__}({given})"


def parse_arguments(arguments: Arguments) -> dict[str, Any]:
    """The user's optimizer_args as Python values by name."""
    if isinstance(arguments, Mapping):
        pairs = list(arguments.items())
    else:
        pairs = [(key.strip(), value) for key, _, value in (each.partition("=") for each in arguments)]
    return {key: _value(key, value) for key, value in pairs}


def _value(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        raise InputError(
            f'optimizer_args: "{key}={value}" is not understood; write key=value with a number, True, False, '
            "None or a pair such as 0.9,0.99."
        ) from None


def _recipe(name: str) -> tuple[str, Recipe]:
    found = find_name(name, OPTIMIZERS)
    if found is None:
        guess = nearest(name, OPTIMIZERS)
        hint = f' (did you mean "{guess}"?)' if guess else ""
        raise InputError(f'optimizer_type: "{name}" is not known{hint}; known are {", ".join(OPTIMIZERS)}.')
    try:
        return found, resolve(OPTIMIZERS[found])()
    except ImportError as missing:
        raise InputError(
            f"optimizer_type: {found} needs a package that is not installed ({missing})."
        ) from None


def _check_arguments(title: str, recipe: Recipe, given: Mapping[str, Any]) -> None:
    known = [
        key for key in inspect.signature(recipe.constructor).parameters if key not in ("params", "lr", "args")
    ]
    for key in given:
        if key not in known:
            guess = nearest(key, known)
            hint = f' (did you mean "{guess}"?)' if guess else ""
            raise InputError(
                f'optimizer_args: {title} has no argument "{key}"{hint}; it has {", ".join(known)}.'
            )


def _refused(title: str, rate: float, given: Mapping[str, Any], refusal: Exception) -> InputError:
    told = ", ".join(f"{key}={value}" for key, value in {"lr": rate, **given}.items())
    return InputError(
        f"optimizer_args: {title} refuses its arguments ({told}): {refusal or 'a value is out of range'}."
    )
