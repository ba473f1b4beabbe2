"""PiSSA: LoRA that begins with the largest singular values of the weight (Meng et al. 2024, arXiv 2404.02948)."""

import torch
from torch import Tensor, nn

from library.adapters.keys import DOWN, UP
from library.adapters.kinds import Options, Size
from library.adapters.layer import OwnKind, uniform
from library.adapters.low_rank import LowRank, product

PASSES, SPARE = 4, 16  # of the randomised decomposition: rounds, and ranks beyond those that are kept


class PissaLayer(LowRank):
    """W + alpha / rank * (up @ down - up_0 @ down_0), where the last product is the one that it began with.

    The paper takes that one out of the weight; beside it the weight stays whole, and nothing of it is lost to half
    precision. A file is a LoRA of twice the rank, so that it fits the base model as it is.
    """

    kind = ""
    first_down: Tensor
    first_up: Tensor

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.register_buffer("first_down", self.down.detach().clone())
        self.register_buffer("first_up", self.up.detach().clone())

    def begin(self, generator: torch.Generator) -> None:
        """The nearest product of this rank to the weight; ranks that it has not begin as in LoRA."""
        weight = self.weight.detach().float().cpu().flatten(1)
        count = min(self.rank, *weight.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            left, values, right = torch.svd_lowrank(weight, min(count + SPARE, *weight.shape), PASSES)
        left, right = left[:, :count], right[:, :count]
        root = (values[:count] / self.scale).sqrt()
        down, up = uniform(self.down, generator), torch.zeros(self.up.shape)
        down.flatten(1)[:count] = root[:, None] * right.t()
        up.flatten(1)[:, :count] = left * root
        for mine, first, drawn in ((self.down, self.first_down, down), (self.up, self.first_up, up)):
            mine.copy_(drawn)
            first.copy_(drawn)

    def change(self) -> Tensor:
        """The difference of both products."""
        down, up = self.both()
        return product(up, down, self.scale)

    def side(self, x: Tensor) -> Tensor:
        """The same in two steps; a rank is dropped of both products at once."""
        mask = self.rank_mask(x)
        return self.through(x, *self.both(), None if mask is None else mask.repeat(2))

    def both(self) -> tuple[Tensor, Tensor]:
        """Matrices of twice the rank: the difference of the products is (up - up_0) @ down + up_0 @ (down - down_0).

        So small differences are formed in float32, and not of products that were rounded.
        """
        down = torch.cat([self.down, self.down - self.first_down])
        return down, torch.cat([self.up - self.first_up, self.first_up], dim=1)

    def export(self, alpha: float) -> dict[str, Tensor]:
        """kohya's leaves of twice the rank."""
        down, up = self.both()
        return {DOWN: down, UP: up * (self.scale / (alpha / (2 * self.rank))), **self.shared_alpha(alpha)}


PISSA = OwnKind("networks.lora", PissaLayer)
