"""Frozen linear layers in 8 or 4 bits, for GPUs with little memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from library.frozen import FrozenLayer

WIDE = 256  # inputs and outputs; narrower layers are few and small
BLOCK = 64  # numbers of NF4 with one scale


class Int8:
    """A weight (outputs, inputs) as whole numbers from -127 to 127, and a scale for each output."""

    def __init__(self, weight: Tensor) -> None:
        scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        self.numbers, self.scale = (weight.float() / scale).round().to(torch.int8), scale

    def to(self, device: torch.device) -> None:
        """Moves it there."""
        self.numbers, self.scale = self.numbers.to(device), self.scale.to(device)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.numbers.nbytes + self.scale.nbytes

    def weight(self, dtype: torch.dtype) -> Tensor:
        """About the weight that it was made of."""
        return self.numbers.to(dtype) * self.scale.to(dtype)


class NF4:
    """A weight in the sixteen numbers that normally distributed ones are best rounded to, by bitsandbytes.

    The scales of its blocks are in 8 bits themselves (QLoRA, Dettmers et al. 2023, arXiv 2305.14314).
    """

    def __init__(self, weight: Tensor) -> None:
        from bitsandbytes import functional as bits

        self.numbers, self.state = bits.quantize_4bit(
            weight.contiguous(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
        )

    def to(self, device: torch.device) -> None:
        """Moves it there."""
        self.numbers = self.numbers.to(device)
        self.state.to(device)

    @property
    def nbytes(self) -> int:
        """The memory that it takes; the scales of scales are too few to count."""
        return int(self.numbers.nbytes + self.state.absmax.nbytes)

    def weight(self, dtype: torch.dtype) -> Tensor:
        """About the weight that it was made of."""
        from bitsandbytes import functional as bits

        whole: Tensor = bits.dequantize_4bit(self.numbers, self.state)
        return whole.to(dtype)


FORMATS = {"int8": Int8, "nf4": NF4}


class QuantisedLinear(FrozenLayer):
    """y = x W' + b, dx = dy W with a W that is made whole for each of the products, and kept in few bits between."""

    def __init__(self, layer: nn.Linear, kept: Int8 | NF4) -> None:
        super().__init__(layer)
        self.kept = kept

    def ahead(self, x: Tensor) -> Tensor:
        """The layer's output, without autograd."""
        return self._plain(x)

    def back(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the inputs."""
        return dy @ self._whole(dy)

    def _plain(self, x: Tensor) -> Tensor:
        return functional.linear(x, self._whole(x), self.layer.bias)

    def _whole(self, like: Tensor) -> Tensor:
        """The weight in the format of `like`; an empty one for tensors without data, by which memory is counted."""
        if type(like) is not Tensor:
            return torch.empty(self.weight.shape, dtype=like.dtype, device=like.device)
        return self.kept.weight(like.dtype)


def quantise(module: nn.Module, format: str, device: torch.device) -> None:
    """Keeps the weights of the wide linear layers of a frozen module as `format`, "int8" or "nf4", alone, on `device`.

    Classes, names and shapes stay. What remains as a layer's weight is one number that stands for all, and is not a
    number: whatever would compute with it is not to go unnoticed. The other layers stay where they are.
    """
    for layer in module.modules():
        if type(layer) is not nn.Linear or min(layer.weight.shape) < WIDE:
            continue
        kept: Any = FORMATS[format](layer.weight.detach())
        kept.to(device)
        nothing = layer.weight.new_full((1,), torch.nan, device=device).expand(layer.weight.shape)
        layer.weight = nn.Parameter(nothing, requires_grad=False)
        layer.forward = QuantisedLinear(layer, kept)  # type: ignore[method-assign, assignment]


def quantised_bytes(module: nn.Module) -> int:
    """The memory of the weights in few bits."""
    frozen = (layer.forward for layer in module.modules())
    return sum(each.kept.nbytes for each in frozen if isinstance(each, QuantisedLinear))
