"""LoRA-FA: LoRA whose first matrix stays as it is drawn (Zhang et al. 2023, arXiv 2308.03303)."""

import torch
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.layer import OwnKind, normal
from library.adapters.low_rank import LowRank


class LoraFaLayer(LowRank):
    """A LoRA of which `up` alone learns, so that inputs need not be kept; its files are plain LoRA."""

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        down = self.down.detach()
        del self.down
        self.register_buffer("down", down)

    def begin(self, generator: torch.Generator) -> None:
        """`down` normal with the deviation sqrt(2 / (inputs + rank)), as in sd-scripts; `up` zero."""
        inputs = self.down[0].numel()
        self.down.copy_(normal(self.down, (2 / (inputs + self.rank)) ** 0.5, generator))
        self.up.zero_()


LORA_FA = OwnKind("networks.lora_fa", LoraFaLayer)
