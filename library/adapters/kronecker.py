"""LoKr without training: the Kronecker product nearest to a change of weights (Van Loan and Pitsianis 1993)."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from library.adapters.changes import Change
from library.adapters.decomposition import spectrum
from library.adapters.keys import ALPHA
from library.adapters.lokr import divided


class Kronecker(NamedTuple):
    """kron(first, second): (outputs 1, inputs 1) and (outputs 2, inputs 2, kernel).

    `second` is one tensor, or (outputs 2, rank) and (rank, inputs 2 * kernel), whose product it is; `shape` is that of
    the weight.
    """

    first: Tensor
    second: tuple[Tensor, ...]
    shape: torch.Size

    @property
    def rank(self) -> int:
        """The inner width of the second factor; the most that it could have where it is whole."""
        return min(self.second[-1].flatten(1).shape) if len(self.second) == 1 else self.second[1].shape[0]

    @property
    def is_split(self) -> bool:
        """Whether the second factor is a product itself, so that alpha / rank counts."""
        return len(self.second) > 1

    def delta(self) -> Tensor:
        """The change of the weight, float32, in its shape."""
        change = Change("lokr", self.leaves(float(self.rank)))
        return change.of(torch.zeros(self.shape, device=self.first.device))

    def leaves(self, alpha: float) -> dict[str, Tensor]:
        """LyCORIS's tensors by their last names, for an alpha that all layers of a file share."""
        if not self.is_split:
            return {"lokr_w1": self.first, "lokr_w2": self.second[0], ALPHA: torch.tensor(alpha)}
        first = self.first * (self.rank / alpha)
        return {"lokr_w1": first, "lokr_w2_a": self.second[0], "lokr_w2_b": self.second[1], ALPHA: torch.tensor(alpha)}

    def to(self, dtype: torch.dtype) -> "Kronecker":
        """The same in another number format."""
        return Kronecker(self.first.to(dtype), tuple(each.to(dtype) for each in self.second), self.shape)

    def cpu(self) -> "Kronecker":
        """The same on the CPU."""
        return Kronecker(self.first.cpu(), tuple(each.cpu() for each in self.second), self.shape)


def nearest_kronecker(change: Tensor, factor: int, rank: int | None = None) -> Kronecker:
    """The product nearest to a change (outputs, inputs) or (outputs, inputs, height, width).

    Each block of the change that one number of the first factor stands for is laid out as a row; the nearest matrix of
    rank 1 to all rows is the nearest product. Both factors take half of its length.

    Args:
        factor: the most that outputs 1 and inputs 1 may be; -1 stands for their roots
        rank: of the second factor, if it is to be a product itself; as in training it stays whole where that is not
            less than half of its longer side
    """
    outputs, inputs, *kernel = change.shape
    (o1, o2), (i1, i2) = divided(outputs, factor), divided(inputs, factor)
    blocks = change.reshape(o1, o2, i1, i2, *kernel).movedim(2, 1)
    found = spectrum(blocks.reshape(o1 * i1, -1))
    root = found.values[0].clamp_min(0).sqrt()
    first, second = (found.left[:, 0] * root).reshape(o1, i1), (found.right[0] * root).reshape(o2, i2, *kernel)
    if rank is None or rank >= max(o2, i2) / 2:
        return Kronecker(first, (second,), change.shape)
    inside = spectrum(second.flatten(1))
    kept = inside.values[:rank].clamp_min(0).sqrt()
    pair = (inside.left[:, :rank] * kept, kept[:, None] * inside.right[:rank])
    return Kronecker(first, pair, change.shape)


def kronecker_tensors(layers: Mapping[str, Kronecker], alpha: float) -> dict[str, Tensor]:
    """The tensors of a file of these layers, by LyCORIS's names."""
    return {f"{stem}.{leaf}": each for stem, layer in layers.items() for leaf, each in layer.leaves(alpha).items()}
