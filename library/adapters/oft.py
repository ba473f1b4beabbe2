"""OFT and BOFT: the outputs of a weight are turned (Qiu et al. 2023, arXiv 2306.07280; Liu et al. 2023, 2311.06243)."""

import torch
from torch import Tensor, nn

from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind
from library.errors import InputError


class OftLayer(AdapterLayer):
    """R W - W, where R turns blocks of outputs, each by Cayley's (I - Q)^-1 (I + Q) with Q = B - B^T.

    The rank is the size of a block: the largest divisor of the outputs up to it; with `num_blocks` there are that many
    blocks, or the largest divisor below. `constraint` times the outputs is the longest that Q may be, as in
    sd-scripts, where it is called alpha; 0 is none. Files have the change itself.
    """

    step = 1  # what sizes are multiples of

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        outputs, told = self.weight.shape[0], options.arguments
        self.longest = float(told.get("constraint", 0)) * outputs
        if count := int(told.get("num_blocks", 0)):
            most = max(each for each in range(1, count + 1) if outputs % each == 0)
            size = size._replace(rank=outputs // most)
        sizes = [each for each in range(self.step, max(size.rank, 2) + 1, self.step) if outputs % each == 0]
        self.size = max(sizes, default=1)
        if self.size == 1:
            raise InputError(f"network_dim = {size.rank} leaves no block of the {outputs} outputs to turn; raise it.")
        self.blocks = self.new(self.rounds(outputs // self.size), outputs // self.size, self.size, self.size)

    def rounds(self, count: int) -> int:
        """How many times all blocks are turned."""
        return 1

    def begin(self, generator: torch.Generator) -> None:
        """Nothing is turned."""
        self.blocks.zero_()

    def change(self) -> Tensor:
        """What the turn makes of the weight, less the weight."""
        weight = self.weight.detach().float()
        skew = self.blocks - self.blocks.transpose(-1, -2)
        if self.longest:
            skew = skew * (self.longest / torch.linalg.vector_norm(skew).clamp_min(self.longest))
        one = torch.eye(self.size, device=weight.device).expand_as(skew)
        turns = torch.linalg.solve_ex(one - skew, one + skew).result
        rows = weight.flatten(1)
        for number, turn in enumerate(turns):
            rows = self.turned(rows, turn, number)
        return rows.reshape(weight.shape) - weight

    def turned(self, rows: Tensor, turn: Tensor, number: int) -> Tensor:
        """Rows (outputs, inputs) turned in blocks of neighbours."""
        return (turn @ rows.reshape(-1, self.size, rows.shape[1])).reshape(rows.shape)

    def export(self, alpha: float) -> dict[str, Tensor]:
        """The change."""
        return {"diff": self.change()}


class BoftLayer(OftLayer):
    """The same several times, with outputs in the order of a butterfly, so that each meets every other."""

    step = 2

    def rounds(self, count: int) -> int:
        """One, and one more for each time that the blocks can be halved."""
        return 1 + ((count & -count).bit_length() - 1)

    def turned(self, rows: Tensor, turn: Tensor, number: int) -> Tensor:
        """Rows turned in blocks whose halves are 2^number * size / 2 apart."""
        apart = 2**number * self.size // 2
        mixed = rows.reshape(-1, 2, apart, rows.shape[1]).transpose(1, 2)
        turned = super().turned(mixed.reshape(rows.shape), turn, number)
        return turned.reshape(-1, apart, 2, rows.shape[1]).transpose(1, 2).reshape(rows.shape)


OFT = OwnKind("lycoris.kohya", OftLayer, {"algo": "diag-oft"})
BOFT = OwnKind("lycoris.kohya", BoftLayer, {"algo": "boft"})
