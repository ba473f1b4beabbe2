"""LoRAs of other ranks, each layer the nearest to what it was."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from library.adapters.decomposition import RankRule, layer_spectrum, low_rank
from library.adapters.keys import LoraWeights


class Loss(NamedTuple):
    """What became of a layer: its ranks, and the squared lengths of its change and of what is missing of it."""

    before: int
    after: int
    whole: float
    missed: float

    @property
    def error(self) -> float:
        """What is missing, as a share of the length of the change."""
        return (self.missed / self.whole) ** 0.5 if self.whole else 0.0


@dataclass(frozen=True)
class Ranks:
    """The rules for linear layers with 1x1 convolutions, and for the larger convolutions."""

    linear: RankRule
    convolution: RankRule

    def rule_for(self, layer: LoraWeights) -> RankRule:
        """The one that a layer goes by."""
        is_large = layer.down.ndim == 4 and layer.down.shape[2:] != (1, 1)
        return self.convolution if is_large else self.linear


def resize(
    layers: Mapping[str, LoraWeights], ranks: Ranks, dtype: torch.dtype, device: torch.device
) -> tuple[dict[str, LoraWeights], dict[str, Loss]]:
    """The layers with ranks by the rules, computed in float64 and rounded to `dtype`, and the loss of each.

    A layer of no change stays one, of rank 1.
    """
    resized, losses = {}, {}
    for stem, layer in tqdm(layers.items(), "resizing", unit="layer", delay=1, leave=False):
        there = LoraWeights(layer.down.to(device), layer.up.to(device), layer.alpha)
        found = layer_spectrum(there)
        rank = ranks.rule_for(layer).rank(found.values)
        shape = torch.Size((layer.up.shape[0], *layer.down.shape[1:]))
        smaller = low_rank(found, rank, shape)
        rounded = LoraWeights(smaller.down.to(dtype), smaller.up.to(dtype), smaller.alpha)
        missed = float((there.delta() - rounded.delta()).double().square().sum())
        losses[stem] = Loss(layer.rank, rank, _squared(found.values), missed)
        resized[stem] = LoraWeights(rounded.down.cpu(), rounded.up.cpu(), rounded.alpha)
    return resized, losses


def total(losses: Mapping[str, Loss]) -> float:
    """What is missing of all layers together, as a share of the length of all changes."""
    whole = sum(loss.whole for loss in losses.values())
    return (sum(loss.missed for loss in losses.values()) / whole) ** 0.5 if whole else 0.0


def _squared(values: Tensor) -> float:
    return float(values.double().square().sum())
