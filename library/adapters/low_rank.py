"""LoRA in a layer of our own, which can drop ranks and whole layers; the ground of the kinds akin to it."""

import torch
from torch import Tensor, nn

from library.adapters.changes import Change
from library.adapters.keys import DOWN, UP
from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind, uniform


class LowRank(AdapterLayer):
    """alpha / rank * up @ down (Hu et al. 2021, arXiv 2106.09685), in two steps.

    `down` is (rank, inputs) or (rank, inputs, height, width), `up` (outputs, rank) or (outputs, rank, 1, 1).
    """

    kind = "lora"

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        outputs, *inputs = self.weight.shape
        self.down: Tensor = self.new(size.rank, *inputs)
        self.up: Tensor = self.new(outputs, size.rank, *(1,) * (len(inputs) - 1))

    def begin(self, generator: torch.Generator) -> None:
        """`down` uniform, `up` zero."""
        self.down.copy_(uniform(self.down, generator))
        self.up.zero_()

    def change(self) -> Tensor:
        """The product itself."""
        return product(self.up, self.down, self.scale)

    def side(self, x: Tensor) -> Tensor:
        """The product of x with one matrix after the other, in the format of x."""
        return self.through(x, self.down, self.up, self.rank_mask(x))

    def through(self, x: Tensor, down: Tensor, up: Tensor, factors: Tensor | None) -> Tensor:
        """alpha / rank * up (factors * (down x)), where there is a factor for each rank, if any."""
        is_linear = isinstance(self.base_layer, nn.Linear)
        with torch.autocast(x.device.type, enabled=False):
            inner = self.apply_weight(x, down.to(x.dtype))
            if factors is not None:
                inner = inner * factors.to(x.dtype).reshape(-1, *(() if is_linear else (1, 1)))
            last = nn.functional.linear if is_linear else nn.functional.conv2d
            return last(inner, up.to(x.dtype)) * self.scale

    def rank_mask(self, x: Tensor) -> Tensor | None:
        """Which ranks are kept in this pass."""
        return self.mask(self.rank, x) if self.training and self.options.rank_dropout else None

    def export(self, alpha: float) -> dict[str, Tensor]:
        """kohya's leaves; `up` takes the difference of the alphas."""
        up = self.up if alpha == self.alpha else self.up * (self.alpha / alpha)
        return {DOWN: self.down, UP: up, **self.shared_alpha(alpha)}

    def take(self, change: Change) -> None:
        """Both matrices of a file, at this layer's scale."""
        self.down.copy_(change.leaves[DOWN].reshape(self.down.shape))
        self.up.copy_(change.leaves[UP].reshape(self.up.shape) * (change.scale / self.scale))


def product(up: Tensor, down: Tensor, scale: float) -> Tensor:
    """scale * up @ down in the shape of the weight: (outputs, inputs), or with height and width."""
    return (scale * (up.flatten(1) @ down.flatten(1))).reshape(up.shape[0], *down.shape[1:])


LOW_RANK = OwnKind("networks.lora", LowRank)
