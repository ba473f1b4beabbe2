"""LoRA+: the second matrix of each pair learns faster than the first (Hayou et al. 2024, arXiv 2402.12354)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from library.errors import InputError
from library.settings import Settings
from library.train.embedding import PART
from library.train.learned import Learned
from library.train.results import network_arguments

PLUS = " plus"  # of the name of the faster group of a part, as in sd-scripts
BOTH = "loraplus_lr_ratio"
OWN = {"unet": "loraplus_unet_lr_ratio", "text_encoder": "loraplus_text_encoder_lr_ratio"}


def loraplus_ratios(settings: Settings, parts: Sequence[str]) -> dict[str, float]:
    """How many times as fast the second matrices learn, by part; parts in which all learn alike are left out.

    Raises InputError for a value that is no number above 0.
    """
    given = {name: _ratio(name, text) for name, text in network_arguments(settings).items() if is_loraplus(name)}
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


def parameter_groups(learned: Learned, rates: Mapping[str, float], ratios: Mapping[str, float]) -> list[dict[str, Any]]:
    """What the optimizer is given: for each part a group, and where LoRA+ is asked for a second one.

    Raises InputError where a part has adapters without a second matrix.
    """
    groups = []
    for part, rate in rates.items():
        parameters, fast = learned.parameters(part), []
        if part in ratios:
            fast = [each for layer in learned.layers[part].values() for each in _second(layer)]
        chosen = {id(each) for each in fast}
        slow = [each for each in parameters if id(each) not in chosen]
        groups.append({"params": slow, "lr": rate, "name": part})
        if fast:
            groups.append({"params": fast, "lr": rate * ratios[part], "name": part + PLUS})
    return groups


def part_of_group(name: str) -> str:
    """The part that a group of parameters belongs to."""
    return name.removesuffix(PLUS)


def _second(layer: Any) -> list[nn.Parameter]:
    """The parameters of a layer that learn faster."""
    matrices = getattr(layer, "lora_B", None)
    if matrices is None:
        raise InputError(f"{BOTH} is for adapters with two matrices (network_module = lora); leave it out.")
    return list(matrices.parameters())


def _ratio(name: str, text: str) -> float:
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not 0 < ratio < math.inf:
        raise InputError(f"network_args: {name} must be a number above 0, 16 as a rule, not '{text}'.")
    return ratio
