"""LoRA+: the second matrix of each pair learns faster than the first (Hayou et al. 2024, arXiv 2402.12354)."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from library.errors import InputError
from library.settings import Settings
from library.settings.network_args import told_arguments
from library.train.embedding import PART
from library.train.learned import Learned

PLUS = " plus"  # of the name of the faster group of a part, as in sd-scripts
TIMES = " x"  # and of one whose rate is multiplied
BOTH = "loraplus_lr_ratio"
OWN = {"unet": "loraplus_unet_lr_ratio", "text_encoder": "loraplus_text_encoder_lr_ratio"}


def loraplus_ratios(settings: Settings, parts: Sequence[str]) -> dict[str, float]:
    """How many times as fast the second matrices learn, by part; parts in which all learn alike are left out.

    Raises InputError for a value that is no number above 0.
    """
    given = {name: _ratio(name, text) for name, text in told_arguments(settings).items() if is_loraplus(name)}
    ratios = {}
    for part in parts:
        name = OWN["unet" if part == "unet" else "text_encoder"]
        ratio = given.get(name, given.get(BOTH, 1.0))
        if ratio != 1 and part != PART:
            ratios[part] = ratio
    return ratios


def is_loraplus(name: str) -> bool:
    """Whether one of the network_args is about learning rates and not about the adapter."""
    return name in (BOTH, *OWN.values())


def parameter_groups(
    learned: Learned,
    rates: Mapping[str, float],
    ratios: Mapping[str, float],
    factor_of: Callable[[str], float] | None = None,
) -> list[dict[str, Any]]:
    """What the optimizer is given: for each part a group, and where LoRA+ is asked for a second one.

    With `factor_of`, the factor of a layer's rate by its stem, each factor has groups of its own.

    Raises InputError where a part has adapters without a second matrix.
    """
    groups = []
    for part, rate in rates.items():
        chosen = {id(each) for each in _second(learned, part)} if part in ratios else set()
        for factor, parameters in _by_factor(learned, part, factor_of).items():
            name = part if factor == 1 else f"{part}{TIMES}{factor:g}"
            slow = [each for each in parameters if id(each) not in chosen]
            fast = [each for each in parameters if id(each) in chosen]
            if slow or not fast:
                groups.append({"params": slow, "lr": rate * factor, "name": name})
            if fast:
                groups.append({"params": fast, "lr": rate * factor * ratios[part], "name": name + PLUS})
    return groups


def part_of_group(name: str) -> str:
    """The part that a group of parameters belongs to."""
    return name.removesuffix(PLUS).partition(TIMES)[0]


def _by_factor(
    learned: Learned, part: str, factor_of: Callable[[str], float] | None
) -> dict[float, list[nn.Parameter]]:
    """The parameters of a part by what their rate is multiplied with."""
    network = getattr(learned, "network", learned)
    by_layer = getattr(network, "by_layer", None)
    if factor_of is None or by_layer is None or part not in network.layers:
        return {1.0: learned.parameters(part)}
    groups: dict[float, list[nn.Parameter]] = {}
    for stem, parameters in by_layer(part).items():
        groups.setdefault(factor_of(stem), []).extend(parameters)
    return groups


def _second(learned: Learned, part: str) -> list[nn.Parameter]:
    """The parameters of a part that learn faster."""
    find = getattr(getattr(learned, "network", learned), "faster", None)
    found: list[nn.Parameter] = find(part) if find else []
    if not found:
        raise InputError(f"{BOTH} is for adapters with two matrices (network_module = lora); leave it out.")
    return found


def _ratio(name: str, text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0 < ratio < math.inf:
        raise InputError(f"network_args: {name} must be a number above 0, 16 as a rule, not '{text}'.")
    return ratio
