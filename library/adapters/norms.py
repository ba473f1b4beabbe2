"""Limits of how much a LoRA changes a weight (scale_weight_norms)."""

from collections.abc import Iterable

import torch
from torch import Tensor

from library.adapters.keys import LoraWeights


def product_norm(layer: LoraWeights) -> Tensor:
    """The Frobenius norm of alpha / rank * up @ down, a scalar, without the product itself.

    ||U D||^2 = tr(D^T U^T U D) = the sum of U^T U times D D^T, number by number: both are rank x rank.
    """
    up, down = layer.up.float().flatten(1), layer.down.float().flatten(1)
    return layer.scale * ((up.T @ up) * (down @ down.T)).sum().clamp(min=0).sqrt()


@torch.no_grad()
def limit_norms(layers: Iterable[LoraWeights], longest: float) -> None:
    """Scales both matrices of each layer down, alike, where their product is longer than `longest`.

    This is sd-scripts' max-norm regularisation, after each step; nothing is read from the device.
    """
    for layer in layers:
        norm = product_norm(layer)
        factor = (longest / norm).clamp(max=1.0).sqrt()
        layer.up.mul_(factor)
        layer.down.mul_(factor)
