"""Tucker's form of a convolution's change: a small core over the kernel between two matrices (LyCORIS's use_tucker).

It learns with fewer numbers. Files have it multiplied out, exactly and at the same rank: not every UI knows the core.
"""

import torch
from torch import Tensor, nn

from library.adapters.keys import DOWN, UP
from library.adapters.kinds import Options, Size
from library.adapters.layer import OwnKind, uniform
from library.adapters.low_rank import LowRank, product


def is_wanted(options: Options, weight: Tensor) -> bool:
    """Whether a layer is told to have a core, and has a kernel for one."""
    return bool(options.arguments.get("use_tucker", False)) and weight.ndim == 4 and weight[0, 0].numel() > 1


def folded(core: Tensor, right: Tensor) -> Tensor:
    """The core (rank, rank, height, width) times (rank, inputs): (rank, inputs, height, width)."""
    return torch.einsum("ijkl,jr->irkl", core, right)


class TuckerLayer(LowRank):
    """alpha / rank * up (core * first), where the core is (rank, rank, height, width); linear layers are plain LoRA."""

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.has_core = is_wanted(options, self.weight)
        if self.has_core:
            self.kind = ""  # no file has the parts
            _, inputs, *kernel = self.weight.shape
            del self.down
            self.first, self.core = self.new(size.rank, inputs), self.new(size.rank, size.rank, *kernel)

    def first_matrix(self) -> Tensor:
        """`down` as LoRA has it."""
        return folded(self.core, self.first) if self.has_core else self.down

    def begin(self, generator: torch.Generator) -> None:
        """Both of the first uniform, `up` zero."""
        for each in (self.first, self.core) if self.has_core else (self.down,):
            each.copy_(uniform(each, generator))
        self.up.zero_()

    def change(self) -> Tensor:
        """The product itself."""
        return product(self.up, self.first_matrix(), self.scale)

    def side(self, x: Tensor) -> Tensor:
        """The product of x with one matrix after the other."""
        with torch.autocast(x.device.type, enabled=False):
            down = self.first_matrix()
        return self.through(x, down, self.up, self.rank_mask(x))

    def export(self, alpha: float) -> dict[str, Tensor]:
        """A plain LoRA of the same rank."""
        if not self.has_core:
            return super().export(alpha)
        leaves = {DOWN: self.first_matrix(), UP: self.up * (self.alpha / alpha)}
        return leaves | self.shared_alpha(alpha)


TUCKER = OwnKind("lycoris.kohya", TuckerLayer, {"algo": "locon"})
