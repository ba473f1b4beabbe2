"""LoKr: a Kronecker product, whose larger factor is of low rank (Edalati et al. 2022, arXiv 2212.10650; LyCORIS)."""

import math

import torch
from torch import Tensor, nn

from library.adapters.changes import Change, folded
from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind, uniform
from library.adapters.tucker import is_wanted, unfolded


class LokrLayer(AdapterLayer):
    """kron(w1, w2), w1 (outputs 1, inputs 1) and w2 (outputs 2, inputs 2, kernel), by LyCORIS's names.

    `factor` is the most that outputs 1 and inputs 1 may be, -1 the root of all. A factor larger than twice the rank is
    a product of two matrices itself: w2 unless `full_matrix`, w1 with `decompose_both`. The scale is alpha / rank, and
    1 where both are whole. With `use_tucker` a core stands between the two of w2, in convolutions that have a kernel.
    """

    kind = "lokr"

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        told, rank = options.arguments, size.rank
        outputs, inputs, *kernel = self.weight.shape
        limit = int(told.get("factor", -1))
        (o1, o2), (i1, i2) = divided(outputs, limit), divided(inputs, limit)
        self.kernel, self.has_core = kernel, False
        self.splits_first = bool(told.get("decompose_both", False)) and rank < max(o1, i1) / 2
        self.splits_second = not told.get("full_matrix", False) and rank < max(o2, i2) / 2
        if self.splits_first:
            self.lokr_w1_a, self.lokr_w1_b = self.new(o1, rank), self.new(rank, i1)
        else:
            self.lokr_w1 = self.new(o1, i1)
        if self.splits_second:
            self.has_core = is_wanted(options, self.weight)
            if self.has_core:
                self.lokr_t2 = self.new(rank, rank, *kernel)
            flat = i2 if self.has_core else i2 * math.prod(kernel)
            self.lokr_w2_a, self.lokr_w2_b = self.new(o2, rank), self.new(rank, flat)
        else:
            self.lokr_w2 = self.new(o2, i2, *kernel)

    @property
    def scale(self) -> float:
        """alpha / rank where a factor is decomposed."""
        return self.alpha / self.rank if self.splits_first or self.splits_second else 1.0

    def second(self) -> Tensor:
        """The latter of the two matrices of w2, the core multiplied into it."""
        return folded(self.lokr_t2, self.lokr_w2_b).flatten(1) if self.has_core else self.lokr_w2_b

    def begin(self, generator: torch.Generator) -> None:
        """All uniform but the last, which is zero."""
        own = list(self.parameters(recurse=False))
        for parameter in own[:-1]:
            parameter.copy_(uniform(parameter, generator))
        own[-1].zero_()

    def change(self) -> Tensor:
        """The product at its scale."""
        one = self.lokr_w1_a @ self.lokr_w1_b if self.splits_first else self.lokr_w1
        two = self.lokr_w2_a @ self.second() if self.splits_second else self.lokr_w2.flatten(1)
        return torch.einsum("ai,bj->abij", one * self.scale, two).reshape(self.weight.shape)

    def export(self, alpha: float) -> dict[str, Tensor]:
        """LyCORIS's leaves; the first takes the difference of the alphas, which whole factors have none of."""
        leaves: dict[str, Tensor] = dict(self.named_parameters(recurse=False))
        if self.has_core:
            del leaves["lokr_t2"]
            leaves["lokr_w2_b"] = self.second()
        if alpha != self.alpha and (self.splits_first or self.splits_second):
            first = next(iter(leaves))
            leaves[first] = leaves[first] * (self.alpha / alpha)
        return {**leaves, **self.shared_alpha(alpha)}

    def take(self, change: Change) -> None:
        """The factors of a file, at this layer's scale."""
        own, taken = dict(self.named_parameters(recurse=False)), dict(change.leaves)
        if self.has_core:
            whole = taken["lokr_w2_b"].reshape(self.rank, -1, *self.kernel)
            taken["lokr_t2"], taken["lokr_w2_b"] = unfolded(whole, self.lokr_t2, self.lokr_w2_b)
        for name, parameter in own.items():
            parameter.copy_(taken[name].reshape(parameter.shape))
        next(iter(own.values())).mul_(change.scale / self.scale)


def divided(count: int, limit: int) -> tuple[int, int]:
    """Two factors of a number, the smaller first: one is the largest up to `limit`, where -1 stands for the root."""
    most = limit if limit > 0 else math.isqrt(count)
    small = max(each for each in range(1, min(most, count) + 1) if count % each == 0)
    return min(small, count // small), max(small, count // small)


LOKR = OwnKind("lycoris.kohya", LokrLayer, {"algo": "lokr"})
