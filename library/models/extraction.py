"""The difference of two models as a LoRA or a LoKr, layer by layer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from library.adapters.decomposition import RankRule, low_rank, spectrum
from library.adapters.keys import LoraWeights
from library.adapters.kronecker import Kronecker, nearest_kronecker
from library.errors import InputError
from library.log import warn
from library.models.family import Family
from library.models.stems import parts_of, usual_stems


@dataclass(frozen=True)
class Wish:
    """What a person asks of the LoRA: ranks, of convolutions larger than 1x1 too if there is a rule for them.

    With a `factor` it is a LoKr of Kronecker products, whose second factors have those ranks, or are whole without.
    """

    rule: RankRule
    conv_rule: RankRule | None = None
    clamp: float | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")
    factor: int | None = None


class PartReport(NamedTuple):
    """What became of one part of the model; errors and shares are of the norm of what changed."""

    part: str
    ranks: tuple[int, ...]
    error: float  # what the LoRA misses of its own layers' change
    outside: float  # the share of the part's whole change that lies in other tensors


class Extracted(NamedTuple):
    """The LoRA's layers by stem, and a report of each part that changed."""

    layers: dict[str, LoraWeights | Kronecker]
    reports: list[PartReport]


def extract(base: Family, tuned: Family, wish: Wish) -> Extracted:
    """The LoRA that turns `base` into something like `tuned`. Parts that are equal in both have no layers in it.

    Raises InputError if the models are of two kinds or sizes, or do not differ in these layers.
    """
    if base.name != tuned.name:
        raise InputError(
            f"the base model is {base.name} and the tuned one {tuned.name}; only models of one family have a "
            "difference."
        )
    if base.prediction_type != tuned.prediction_type:
        warn(f"the base model predicts {base.prediction_type}, the tuned one {tuned.prediction_type}.")
    layers: dict[str, LoraWeights | Kronecker] = {}
    reports, elsewhere = [], 0.0
    for part in parts_of(base):
        before, after = base.part_tensors(part), tuned.part_tensors(part)
        stems = usual_stems(base, part, before, wish.conv_rule is not None)
        _check_shapes(part, before, after, stems.values())
        if any(not is_equal(before[name], after[name]) for name in stems.values()):
            found, report = _extract_part(part, before, after, stems, wish)
            layers |= found
            reports.append(report)
        else:
            elsewhere += _squared_change(before, after, [])
    if not layers:
        where = "only in layers that this LoRA would not have; give --conv_dim" if elsewhere else "in nothing"
        raise InputError(f"the two models differ {where}, so there is nothing to extract.")
    return Extracted(layers, reports)


def is_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers, if need be after rounding to the coarser of their formats."""
    if one.dtype == other.dtype:
        return torch.equal(one, other)
    return torch.equal(one.to(other.dtype), other) or torch.equal(one, other.to(one.dtype))


def _extract_part(
    part: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], stems: Mapping[str, str], wish: Wish
) -> tuple[dict[str, LoraWeights | Kronecker], PartReport]:
    layers: dict[str, LoraWeights | Kronecker] = {}
    ranks, missed, whole = [], 0.0, 0.0
    for stem, name in tqdm(stems.items(), f"decomposing the {part}", unit="layer", delay=1, leave=False):
        change = after[name].to(wish.device).float() - before[name].to(wish.device).float()
        is_large = change.ndim == 4 and change.shape[2:] != (1, 1)
        rule = wish.conv_rule if is_large and wish.conv_rule else wish.rule
        layer = _decomposed(change, rule, wish)
        missed += float((change - layer.delta()).double().square().sum())
        whole += float(change.double().square().sum())
        layers[stem] = layer.cpu()
        ranks.append(layer.rank)
    outside = _squared_change(before, after, stems.values())
    return layers, PartReport(part, tuple(ranks), (missed / whole) ** 0.5, (outside / (whole + outside)) ** 0.5)


def _decomposed(change: Tensor, rule: RankRule, wish: Wish) -> LoraWeights | Kronecker:
    """One layer's change as it will be in the file, rounded to the file's number format."""
    if wish.factor is not None:
        return nearest_kronecker(change, wish.factor, rule.most).to(wish.dtype)
    found = spectrum(change.flatten(1))
    layer = low_rank(found, rule.rank(found.values), change.shape, wish.clamp)
    return layer._replace(down=layer.down.to(wish.dtype), up=layer.up.to(wish.dtype))


def _check_shapes(part: str, before: Mapping[str, Tensor], after: Mapping[str, Tensor], names: Iterable[str]) -> None:
    """InputError if a layer is missing in the tuned model, or of another shape there."""
    for name in names:
        shapes = [tuple(tensors[name].shape) if name in tensors else "missing" for tensors in (before, after)]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"the two models are not built alike: {part} {name} is {shapes[0]} in the base model and {shapes[1]} "
                "in the tuned one."
            )


def _squared_change(before: Mapping[str, Tensor], after: Mapping[str, Tensor], without: Iterable[str]) -> float:
    """The sum of all squared differences of tensors of equal shape, but for the names in `without`."""
    skipped = set(without)
    total = 0.0
    for name in (before.keys() & after.keys()) - skipped:
        one, other = before[name], after[name]
        if one.shape == other.shape and not is_equal(one, other):
            total += float((other.double() - one.double()).square().sum())
    return total
