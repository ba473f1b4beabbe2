"""DyLoRA: a LoRA that may be cut to any lower rank afterwards (Valipour et al. 2022, arXiv 2210.07558)."""

import torch
from torch import Tensor, nn

from library.adapters.kinds import Options, Size
from library.adapters.layer import OwnKind
from library.adapters.low_rank import LowRank
from library.errors import InputError


class DyloraLayer(LowRank):
    """In each pass of training a rank is drawn: those up to it are used, and the last `unit` of them learn.

    The product is made longer by sqrt(rank / drawn rank), as in sd-scripts. Outside training all ranks count, and the
    files are plain LoRA.
    """

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.unit = int(options.arguments.get("unit", 1))
        if size.rank % self.unit:
            raise InputError(f"network_args: unit = {self.unit} does not divide the rank, {size.rank}; choose another.")

    def side(self, x: Tensor) -> Tensor:
        """The product of x with the drawn ranks; on the device, so that nothing waits for a number."""
        if not self.training:
            return super().side(x)
        places = torch.arange(self.rank, device=x.device)
        drawn = (torch.randint(self.rank // self.unit, (), device=x.device) + 1) * self.unit
        used, learning = places < drawn, (places < drawn) & (places >= drawn - self.unit)
        ones = (1,) * (self.down.ndim - 1)
        down = torch.where(learning.reshape(-1, *ones), self.down, self.down.detach())
        up = torch.where(learning.reshape(1, -1, *ones[1:]), self.up, self.up.detach())
        factors = used * (self.rank / drawn).sqrt()
        return self.through(x, down, up, factors)


DYLORA = OwnKind("networks.dylora", DyloraLayer)
