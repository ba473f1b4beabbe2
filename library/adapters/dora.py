"""DoRA: the directions of a weight's columns by LoRA, and their lengths by themselves (Liu et al. 2024, 2402.09353)."""

import torch
from torch import Tensor, nn

from library.adapters.changes import MAGNITUDE, Change
from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind
from library.adapters.low_rank import LowRank


class DoraLayer(LowRank):
    """W' = m (W + alpha / rank * up @ down) / norm, where m and the norm are of each input, (1, inputs).

    That is the one form that every UI computes rightly; PEFT's has a length for each output. As in section 4.3 of the
    paper the norm is a constant on the way back, which saves its memory and changes little.
    """

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.magnitude = self.new(1, self.weight.shape[1], *(1,) * (self.weight.ndim - 2))

    def begin(self, generator: torch.Generator) -> None:
        """As LoRA, with the lengths of the frozen weight."""
        super().begin(generator)
        self.magnitude.copy_(lengths(self.weight.detach().float()))

    def change(self) -> Tensor:
        """W' - W."""
        weight = self.weight.detach().float()
        turned = weight + super().change()
        return turned * (self.magnitude / lengths(turned.detach())) - weight

    def side(self, x: Tensor) -> Tensor:
        """By the change of the weight: two steps are not enough for this one."""
        return AdapterLayer.side(self, x)

    def export(self, alpha: float) -> dict[str, Tensor]:
        """LoRA's leaves, and the lengths."""
        return {**super().export(alpha), MAGNITUDE: self.magnitude}

    def take(self, change: Change) -> None:
        """Both matrices and the lengths of a file."""
        super().take(change)
        self.magnitude.copy_(change.leaves[MAGNITUDE].reshape(self.magnitude.shape))


def lengths(weight: Tensor) -> Tensor:
    """The norm of each input's column over outputs and kernel, (1, inputs) or (1, inputs, 1, 1), never 0."""
    dims = [each for each in range(weight.ndim) if each != 1]
    return torch.linalg.vector_norm(weight, dim=dims, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


DORA = OwnKind("lycoris.kohya", DoraLayer, {"algo": "lora", "dora_wd": "True"})
