"""The best low-rank form of a change of weights, by singular values (Eckart and Young 1936)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from library.adapters.keys import LoraWeights


class Spectrum(NamedTuple):
    """A matrix as left @ diag(values) @ right: (out, n), (n), (n, in), the largest values first, all float32."""

    left: Tensor
    values: Tensor
    right: Tensor


@dataclass(frozen=True)
class RankRule:
    """How many singular values are kept: at least 1, at most `most`, and the fewest that fulfil what is given.

    `energy` is the share of the sum of their squares, `cumulative` that of their plain sum, and with `ratio` all
    count that are at least the largest divided by it.
    """

    most: int | None = None
    energy: float | None = None
    cumulative: float | None = None
    ratio: float | None = None

    def rank(self, values: Tensor) -> int:
        """The rank for these singular values, the largest first."""
        count = len(values)
        if self.energy is not None:
            count = _enough(values.double() ** 2, self.energy)
        if self.cumulative is not None:
            count = min(count, _enough(values.double(), self.cumulative))
        if self.ratio is not None:
            count = min(count, int((values * self.ratio >= values[0]).sum()))
        return max(1, min(count, self.most or count))


def spectrum(matrix: Tensor) -> Spectrum:
    """The singular values of any matrix (out, in), which is computed with in float64.

    By the eigenvectors of the smaller of its two products with itself, which takes a fraction of the time of an SVD;
    singular values below about 1e-8 of the largest are noise.
    """
    is_wide = matrix.shape[0] <= matrix.shape[1]
    # Apple's GPUs have no float64.
    flat = (matrix if is_wide else matrix.T).to("cpu" if matrix.device.type == "mps" else matrix.device).double()
    vectors = torch.linalg.eigh(flat @ flat.T).eigenvectors.flip(1)
    rows = vectors.T @ flat
    values = rows.norm(dim=1)
    others = rows / values.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    left, right = (vectors, others) if is_wide else (others.T, vectors.T)
    return Spectrum(left.float(), values.float(), right.float())


def product_spectrum(up: Tensor, down: Tensor) -> Spectrum:
    """The singular values of up @ down, (out, n) and (n, in), without ever making the product."""
    left, left_core = torch.linalg.qr(up.double())
    right, right_core = torch.linalg.qr(down.double().T)
    core, values, across = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    return Spectrum((left @ core).float(), values.float(), (across @ right.T).float())


def layer_spectrum(layer: LoraWeights) -> Spectrum:
    """The singular values of a layer's change of its weight."""
    found = product_spectrum(layer.up.flatten(1), layer.down.flatten(1))
    return Spectrum(found.left, found.values * layer.scale, found.right)


def low_rank(found: Spectrum, rank: int, shape: torch.Size, clamp: float | None = None) -> LoraWeights:
    """The layer of this rank that comes nearest to the decomposed change; its alpha is its rank.

    Both matrices take the root of each singular value, so that half precision holds them equally well.

    Args:
        shape: of the weight, (out, in) or (out, in, height, width)
        clamp: a quantile of the absolute values of both matrices, beyond which all are cut
    """
    root = found.values[:rank].clamp_min(0).sqrt()
    up, down = found.left[:, :rank] * root, root[:, None] * found.right[:rank]
    if clamp is not None and clamp < 1:
        sizes = torch.cat([up.flatten(), down.flatten()]).abs()
        limit = float(sizes.kthvalue(max(1, math.ceil(clamp * len(sizes)))).values)
        up, down = up.clamp(-limit, limit), down.clamp(-limit, limit)
    ones = (1,) * (len(shape) - 2)
    return LoraWeights(down.reshape(rank, *shape[1:]), up.reshape(shape[0], rank, *ones), float(rank))


def _enough(shares: Tensor, wanted: float) -> int:
    """How many of the first make up the wanted share of the sum; all of nothing is nothing."""
    reached = shares.cumsum(0)
    # The sum's own rounding must not ask for one more than there is to gain.
    return 1 + int((reached < wanted * reached[-1] * (1 - 1e-12)).sum())
