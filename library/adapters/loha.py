"""LoHa: the entry-by-entry product of two low-rank products (Hyeon-Woo et al. 2022, arXiv 2108.06098)."""

from typing import Any

import torch
from torch import Tensor, nn

from library.adapters.changes import Change, folded
from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind, normal
from library.adapters.tucker import is_wanted, unfolded

NAMES = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")


class Hadamard(torch.autograd.Function):
    """(a b) * (c d); the two products, each as large as the weight, are made again on the way back, not kept."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        """The product, (outputs, inputs), of a and c (outputs, rank), b and d (rank, inputs)."""
        ctx.save_for_backward(a, b, c, d)
        return (a @ b) * (c @ d)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        """The gradients of all four."""
        a, b, c, d = ctx.saved_tensors
        first, second = gradient * (c @ d), gradient * (a @ b)
        return first @ b.t(), a.t() @ first, second @ d.t(), c.t() @ second


class LohaLayer(AdapterLayer):
    """alpha / rank * (w1_a w1_b) * (w2_a w2_b), by LyCORIS's names; a kernel belongs to the inputs.

    With `use_tucker` a core stands between the two of each pair, in convolutions that have a kernel.
    """

    kind = "loha"

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        outputs, inputs = self.weight.flatten(1).shape
        self.has_cores = is_wanted(options, self.weight)
        if self.has_cores:
            inputs = self.weight.shape[1]
            self.hada_t1, self.hada_t2 = (self.new(size.rank, size.rank, *self.weight.shape[2:]) for _ in range(2))
        self.hada_w1_a, self.hada_w1_b = self.new(outputs, size.rank), self.new(size.rank, inputs)
        self.hada_w2_a, self.hada_w2_b = self.new(outputs, size.rank), self.new(size.rank, inputs)

    def matrices(self) -> list[Tensor]:
        """All four, the cores multiplied into the second of each pair."""
        first, second, third, fourth = (getattr(self, name) for name in NAMES)
        if not self.has_cores:
            return [first, second, third, fourth]
        return [first, folded(self.hada_t1, second).flatten(1), third, folded(self.hada_t2, fourth).flatten(1)]

    def begin(self, generator: torch.Generator) -> None:
        """As LyCORIS begins: one of the four is zero."""
        for core in (self.hada_t1, self.hada_t2) if self.has_cores else ():
            core.copy_(normal(core, 0.1, generator))
        self.hada_w1_a.copy_(normal(self.hada_w1_a, 0.1, generator))
        self.hada_w1_b.copy_(normal(self.hada_w1_b, 1.0, generator))
        self.hada_w2_a.zero_()
        self.hada_w2_b.copy_(normal(self.hada_w2_b, 1.0, generator))

    def change(self) -> Tensor:
        """The product at its scale."""
        made: Tensor = Hadamard.apply(*self.matrices())
        return (made * self.scale).reshape(self.weight.shape)

    def export(self, alpha: float) -> dict[str, Tensor]:
        """LyCORIS's leaves; the first takes the difference of the alphas."""
        leaves = dict(zip(NAMES, self.matrices(), strict=True))
        if alpha != self.alpha:
            leaves[NAMES[0]] = leaves[NAMES[0]] * (self.alpha / alpha)
        return leaves | self.shared_alpha(alpha)

    def take(self, change: Change) -> None:
        """All four of a file, at this layer's scale, the cores found again."""
        taken = dict(change.leaves)
        for core, name in (("hada_t1", NAMES[1]), ("hada_t2", NAMES[3])) if self.has_cores else ():
            own, right = getattr(self, core), getattr(self, name)
            found, taken[name] = unfolded(taken[name].reshape(self.rank, -1, *own.shape[2:]), own, right)
            own.copy_(found)
        for name in NAMES:
            getattr(self, name).copy_(taken[name])
        self.hada_w1_a.mul_(change.scale / self.scale)


LOHA = OwnKind("lycoris.kohya", LohaLayer, {"algo": "loha"})
