"""Frozen weights on a CPU, put once into the order that its kernels read, instead of in every call.

A convolution brings its weight into the order of oneDNN's kernels each time, which at few pixels takes longer than the
convolution itself; a product of matrices goes to MKL, which uses half of an AMD processor's width. Here both compute
with two copies of the weight, one for the forward and one for the backward pass, and keep nothing for the latter:
autograd's own convolution keeps its inputs, though only a weight that learns would need them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor, nn

SHARE = 3  # of the machine's memory, one part in so many may hold copies
WIDE = 320  # inputs and outputs, as of the narrowest in SD 1.5; with fewer a copy gains less than calling it costs
BOTH = ("ahead", "back")  # for the forward pass, and for the backward pass


def use_frozen_layers(modules: Iterable[nn.Module], copies: Sequence[str] = BOTH, processes: int = 1) -> None:
    """Has the wide convolutions and linear layers of `modules` that do not learn computed by a `PackedLayer`.

    Their classes, weights and names stay. On a GPU nothing is changed, nor where the copies of all would take more
    than this process's part of a third of the machine's memory; so it is the same in every run on a machine. Models
    that only draw need one of the two `copies`.
    """
    found = [frozen for module in modules for layer in module.modules() if (frozen := _frozen(layer))]
    size = sum(len(copies) * each.weight.nbytes for each in found)
    if size <= psutil.virtual_memory().total / SHARE / processes:
        for each in found:
            each.pack(copies)
            each.layer.forward = each


def frozen_linear(layer: nn.Module) -> "FrozenLayer | None":
    """What multiplies by the weight of the linear layer `layer`, where it is not the layer itself."""
    return layer.forward if isinstance(layer.forward, FrozenLayer) else None


def _frozen(layer: nn.Module) -> "PackedLayer | None":
    """A plain convolution or linear layer that does not learn as a `PackedLayer`, if that gains anything."""
    learns = any(each.requires_grad for each in layer.parameters(recurse=False))
    is_own = type(layer) in (nn.Linear, nn.Conv2d) and not isinstance(layer.forward, FrozenLayer)
    if not is_own or learns or not _is_worth_packing(layer.weight):
        return None
    if not isinstance(layer, nn.Conv2d):
        return FrozenLinear(layer)
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or layer.dilation != (1, 1) or layer.groups > 1:
        return None
    if layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0):
        return FrozenPointwise(layer)
    is_inside = all(pad < size for pad, size in zip(layer.padding, layer.kernel_size, strict=True))
    return FrozenConv2d(layer) if is_inside else None


def _is_worth_packing(weight: Any) -> bool:
    """Whether copies of this weight make a CPU faster; a quantised one has no usual parameter."""
    if type(weight) is not nn.Parameter or weight.device.type != "cpu" or min(weight.shape[:2]) < WIDE:
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class FrozenLayer(ABC):
    """A layer's products with its frozen weight: of inputs, and of gradients on their way back.

    For autograd they keep nothing but the weight.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output, in the format of x; the layer's own, where it learns by now or autocast is on."""
        if self.weight.requires_grad or torch.is_autocast_enabled(x.device.type) or x.dtype != self.weight.dtype:
            return self._plain(x)
        product: Tensor = _Product.apply(x, self)
        return product

    @property
    def weight(self) -> Tensor:
        """The layer's own weight."""
        weight: Tensor = self.layer.weight
        return weight

    @abstractmethod
    def ahead(self, x: Tensor) -> Tensor:
        """The layer's output, without autograd."""

    @abstractmethod
    def back(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of inputs of that shape from that of the output."""

    def _plain(self, x: Tensor) -> Tensor:
        """The layer's output with autograd as the layer itself has it."""
        output: Tensor = type(self.layer).forward(self.layer, x)
        return output


class PackedLayer(FrozenLayer):
    """One that computes with copies of the weight; they are made anew where it has been changed since."""

    def __init__(self, layer: Any) -> None:
        super().__init__(layer)
        self._version = -1
        self._copies: dict[str, Tensor] = {}

    def pack(self, copies: Sequence[str]) -> None:
        """Makes these copies now; others are made when they are needed."""
        for name in copies:
            self._copy(name)

    def ahead(self, x: Tensor) -> Tensor:
        """The layer's output, without autograd; the plain one for tensors without data, by which memory is counted."""
        return self._times(x, "ahead", self.layer.bias) if type(x) is Tensor else self._plain(x)

    def back(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of inputs of that shape from that of the output."""
        return self._times(dy, "back", None)

    def _copy(self, name: str) -> Tensor:
        """The copy "ahead" or "back" of the weight as it is now."""
        if self.weight._version != self._version:
            self._copies.clear()
            self._version = self.weight._version
        if name not in self._copies:
            with torch.no_grad():
                self._copies[name] = self._ordered(name)
        return self._copies[name]

    @abstractmethod
    def _ordered(self, name: str) -> Tensor:
        """Makes that copy."""

    @abstractmethod
    def _times(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        """The product of x with that copy."""


class FrozenLinear(PackedLayer):
    """y = x W' + b, dx = dy W, for x (..., inputs) and W (outputs, inputs)."""

    def _ordered(self, name: str) -> Tensor:
        weight = self.weight.detach().flatten(1)
        if name == "back":
            weight = weight.t().contiguous()
        ordered: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
        return ordered

    def _times(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._copy(name), bias, "none", [], "")
        return product


class FrozenPointwise(FrozenLinear):
    """A convolution of single pixels, as a product of matrices: its own kernels are slow at some shapes."""

    def _times(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        rows = super()._times(x.flatten(2).transpose(1, 2), name, bias)
        return rows.transpose(1, 2).unflatten(2, x.shape[2:])


class FrozenConv2d(PackedLayer):
    """y = W * x + b; dx is the convolution of dy with W turned round and its channels exchanged.

    Where the kernel goes in steps of several pixels, zeros are put between those of dy.
    """

    def back(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of inputs of that shape from that of the output."""
        layer = self.layer
        if layer.stride == (1, 1):
            return self._times(dy, "back", None)
        sizes = zip(shape[2:], layer.padding, layer.kernel_size, strict=True)
        spread = dy.new_zeros(*dy.shape[:2], *(size + 2 * pad - kernel + 1 for size, pad, kernel in sizes))
        spread[..., :: layer.stride[0], :: layer.stride[1]] = dy
        return self._times(spread, "back", None)

    def _ordered(self, name: str) -> Tensor:
        weight = self.weight.detach()
        if name == "back":
            weight = weight.flip(2, 3).transpose(0, 1)
        padding, stride = self._ways(name)
        ordered: Tensor = torch.ops.mkldnn._reorder_convolution_weight(weight, padding, stride, 1, 1, None)
        return ordered

    def _times(self, x: Tensor, name: str, bias: Tensor | None) -> Tensor:
        padding, stride = self._ways(name)
        product: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._copy(name), bias, padding, stride, [1, 1], 1, "none", [], ""
        )
        return product

    def _ways(self, name: str) -> tuple[list[int], list[int]]:
        """Padding and stride. In the backward pass padding is what the forward pass's leaves of the kernel."""
        layer = self.layer
        if name == "ahead":
            return list(layer.padding), list(layer.stride)
        return [size - 1 - pad for size, pad in zip(layer.kernel_size, layer.padding, strict=True)], [1, 1]


class _Product(torch.autograd.Function):
    """A frozen layer for autograd; of the inputs only the shape is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frozen: FrozenLayer) -> Tensor:
        ctx.frozen, ctx.shape = frozen, x.shape
        return frozen.ahead(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.frozen.back(gradient, ctx.shape), None
