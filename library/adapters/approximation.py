"""Adapters of any kinds as one LoRA: the exact sum of their changes of each weight, and the nearest of a given rank."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from library.adapters.changes import MAGNITUDE, Change
from library.adapters.combining import Share
from library.adapters.decomposition import RankRule, Spectrum, low_rank, spectrum
from library.adapters.keys import LoraWeights
from library.errors import InputError
from library.log import warn

# Kinds whose files tell shapes and numbers of the change by themselves; of others the base weight is needed.
ALONE = ("lora", "full")
SMALLEST = 1e-6  # singular values below this share of the largest are rounding
WeightOf = Callable[[str], Tensor | None]  # the base model's weight by a layer's stem
Given = list[tuple[float, Change, Path]]


@dataclass
class Nearest:
    """A LoRA that comes near to the sum of files, and squared lengths: of each file's change, and of what it misses."""

    layers: dict[str, LoraWeights] = field(default_factory=dict)
    whole: dict[Path, float] = field(default_factory=lambda: defaultdict(float))
    missed: dict[Path, float] = field(default_factory=lambda: defaultdict(float))
    total: float = 0.0
    total_missed: float = 0.0

    @property
    def errors(self) -> dict[Path, float]:
        """What the LoRA misses of each file, as a share of the length of its change."""
        return {path: (self.missed[path] / whole) ** 0.5 if whole else 0.0 for path, whole in self.whole.items()}

    @property
    def error(self) -> float:
        """What it misses of the sum."""
        return (self.total_missed / self.total) ** 0.5 if self.total else 0.0


def approximate(
    shares: Sequence[Share], rule: RankRule, dtype: torch.dtype, device: torch.device, weight_of: WeightOf | None = None
) -> Nearest:
    """The LoRA of a rank by the rule, rounded to `dtype`, that is nearest to the sum of all files.

    Changes of norms and biases have no place in a LoRA; how many are left out is said. Layers of weight 0 count for
    nothing.

    Raises InputError where a kind needs the base model and there is none, and where a file is made for another.
    """
    found: dict[str, Given] = {}
    for share in shares:
        factor_of, left_out = share.weight_of, 0
        for stem, change in share.changes().items():
            left_out += change.kind == "norm" or change.bias is not None
            if change.kind != "norm" and (factor := factor_of(stem)):
                found.setdefault(stem, []).append((factor, change, share.path))
        if left_out:
            warn(f"{share.path}: a LoRA has no place for {left_out} changes of norms and biases; they are left out.")
    if not found:
        raise InputError("nothing is left of these files: no layer of theirs can be in a LoRA with a weight above 0.")
    result = Nearest()
    for stem, given in tqdm(found.items(), "decomposing", unit="layer", delay=1, leave=False):
        _add(result, stem, given, _base(stem, given, weight_of).to(device), rule, dtype)
    return result


def _base(stem: str, given: Given, weight_of: WeightOf | None) -> Tensor:
    """The base weight, or where no kind looks at its numbers zeros of its shape."""
    weight = weight_of(stem) if weight_of else None
    if weight is None and weight_of:
        raise InputError(f"{given[0][2]} has the layer {stem}, which the base model has not; it was made for another.")
    for _, change, path in given:
        if weight is None and (change.kind not in ALONE or MAGNITUDE in change.leaves):
            raise InputError(f"{path} says how to change a weight, and not by how much: give --base, its base model.")
    shape = max((change.shape for _, change, _ in given), key=len) if weight is None else tuple(weight.shape)
    for _, change, path in given:
        if not change.fits(shape):
            raise InputError(
                f"{path} is not for the same base model: {stem} is made for a weight of shape {change.shape}, and not "
                f"of {shape}."
            )
    return torch.zeros(shape) if weight is None else weight


def _add(result: Nearest, stem: str, given: Given, base: Tensor, rule: RankRule, dtype: torch.dtype) -> None:
    """One layer's LoRA, and what it misses."""
    changes = [(factor, change.of(base), path) for factor, change, path in given]
    total = torch.zeros(base.shape, device=base.device)
    for factor, change, _ in changes:
        total += factor * change
    found = spectrum(total.flatten(1))
    rank = rule.rank(found.values)
    layer = low_rank(found, rank, total.shape)
    layer = LoraWeights(layer.down.to(dtype), layer.up.to(dtype), layer.alpha)
    result.layers[stem] = layer.cpu()
    result.total += _squared(total)
    result.total_missed += _squared(total - layer.delta())
    for _, change, path in changes:
        whole = _squared(change)
        result.whole[path] += whole
        result.missed[path] += max(whole - _kept(change.flatten(1), found, rank), 0.0)


def _kept(change: Tensor, found: Spectrum, rank: int) -> float:
    """The squared length of what the LoRA holds of one file's change.

    The LoRA is the sum, projected on its own columns or, which is the same, on its rows; so it is the sum of all
    changes that are projected so, on the shorter side.
    """
    count = min(rank, int((found.values > SMALLEST * found.values[0]).sum()))
    is_wide = change.shape[0] <= change.shape[1]
    return _squared(found.left[:, :count].T @ change if is_wide else change @ found.right[:count].T)


def _squared(tensor: Tensor) -> float:
    return float(tensor.double().square().sum())
