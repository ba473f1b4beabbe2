"""Tucker's form of a convolution's change: a small core over the kernel between two matrices (LyCORIS's use_tucker).

It learns with fewer numbers. Files have it multiplied out, exactly and at the same rank: not every UI knows the core.
From such a file the core is found again (De Lathauwer et al. 2000, SIAM J. Matrix Anal. Appl. 21(4): the singular
vectors of the unfolded tensor).
"""

import torch
from torch import Tensor, nn

from library.adapters.changes import Change, folded
from library.adapters.decomposition import spectrum
from library.adapters.keys import DOWN, UP
from library.adapters.kinds import Options, Size
from library.adapters.layer import OwnKind, uniform
from library.adapters.low_rank import LowRank, product
from library.errors import InputError

ROUNDING = 2.0**-8  # of a file in bf16, as a share


def is_wanted(options: Options, weight: Tensor) -> bool:
    """Whether a layer is told to have a core, and has a kernel for one."""
    return bool(options.arguments.get("use_tucker", False)) and weight.ndim == 4 and weight[0, 0].numel() > 1


def unfolded(whole: Tensor, core: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """A core and a matrix, in the shapes of `core` and `right`, whose product is (rank, inputs, height, width).

    The rows of the matrix have the length 1 and stand at right angles; where there are more than needed, the rest is 0.
    Raises InputError where there are no such two, as for most convolutions that were trained without a core.
    """
    rank, _, height, width = core.shape
    found = spectrum(whole.movedim(1, -1).reshape(rank * height * width, -1))
    if found.values[rank:].norm() > ROUNDING * found.values.norm():
        raise InputError(
            f"it was not trained with use_tucker and has no core of rank {rank}; leave use_tucker out of network_args."
        )
    new_core, new_right = torch.zeros_like(core), torch.zeros_like(right)
    left = (found.left * found.values)[:, :rank].reshape(rank, height, width, -1).movedim(-1, 1)
    new_core[:, : left.shape[1]] = left.to(core.device)
    new_right[: left.shape[1]] = found.right[:rank].to(core.device)
    return new_core, new_right


class TuckerLayer(LowRank):
    """alpha / rank * up (core * first), where the core is (rank, rank, height, width); linear layers are plain LoRA."""

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.has_core = is_wanted(options, self.weight)
        if self.has_core:
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

    def take(self, change: Change) -> None:
        """The matrices of a file at this layer's scale, the core found again."""
        if not self.has_core:
            return super().take(change)
        down = change.leaves[DOWN].reshape(self.first_matrix().shape)
        for own, found in zip((self.core, self.first), unfolded(down, self.core, self.first), strict=True):
            own.copy_(found)
        self.up.copy_(change.leaves[UP].reshape(self.up.shape) * (change.scale / self.scale))


TUCKER = OwnKind("lycoris.kohya", TuckerLayer, {"algo": "locon"})
