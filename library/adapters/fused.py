"""The LoRA layer of a linear layer in one piece, instead of five operations that each keep what they computed."""

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import Conv2d, Linear
from torch import Tensor, nn

from library.adapters.shared import whole_output
from library.adapters.shared_path import Side
from library.frozen import frozen_linear


class SidePath(torch.autograd.Function):
    """y = x W' + b + s (x A') B', for x (..., inputs), W (outputs, inputs), A (rank, inputs), B (outputs, rank).

    The product is added into the base layer's own output, and only x, x A', A and B are kept for the backward pass:
    dB = s dY' (x A'), dA = s (dY B)' x, dx = dY W + s (dY B) A. Plain autograd also keeps (or at least makes) the
    product, its multiple and the sum. W and b are those of the frozen linear layer `base`. A and B may be of a higher
    precision than x, and are rounded to it, as autocast does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Any, down: Tensor, up: Tensor, scaling: float) -> Tensor:
        """The layer's output, (..., outputs), in the format of x."""
        rows, frozen = x.reshape(-1, x.shape[-1]), frozen_linear(base)
        y = frozen.ahead(rows) if frozen else nn.functional.linear(rows, base.weight, base.bias)
        near_down, near_up = down.to(x.dtype), up.to(x.dtype)
        inner = rows @ near_down.t()
        y.addmm_(inner, near_up.t(), alpha=scaling)
        ctx.save_for_backward(rows, inner, near_down, near_up)
        ctx.base, ctx.scaling, ctx.shape, ctx.formats = base, scaling, x.shape, (down.dtype, up.dtype)
        return y.view(*x.shape[:-1], up.shape[0])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, A and B; none for x where nothing below it learns."""
        rows, inner, down, up = ctx.saved_tensors
        dy = gradient.reshape(-1, up.shape[0])
        # With beta = 0 the first operand gives its shape alone: a product and its multiple in one operation.
        d_inner = torch.addmm(inner, dy, up, beta=0, alpha=ctx.scaling)
        d_up = torch.addmm(up, dy.t(), inner, beta=0, alpha=ctx.scaling)
        d_down = d_inner.t() @ rows
        dx = None
        if ctx.needs_input_grad[0]:
            frozen = frozen_linear(ctx.base)
            dx = frozen.back(dy, rows.shape) if frozen else dy @ ctx.base.weight
            dx = dx.addmm_(d_inner, down).view(ctx.shape)
        return dx, None, d_down.to(ctx.formats[0]), d_up.to(ctx.formats[1]), None


class FusedLinear(Linear):
    """PEFT's layer, whose forward pass is `SidePath` wherever that computes the same."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output and the adapter's, (..., outputs)."""
        base = self.get_base_layer()
        if not (args or kwargs) and (whole := whole_output(base, x)) is not None:
            return whole
        side = None if args or kwargs else self.low_rank(x)
        answer: Tensor = SidePath.apply(x, base, *side) if side else super().forward(x, *args, **kwargs)
        return answer

    def low_rank(self, x: Tensor) -> Side | None:
        """The adapter's part, where nothing else is asked of the layer."""
        if not _is_plain(self, x):
            return None
        (name,) = self.active_adapters
        down: Any = self.lora_A[name]
        up: Any = self.lora_B[name]
        return Side(down.weight, up.weight, self.scaling[name])


class RoundedConv2d(Conv2d):
    """PEFT's layer, computed in the format of its input: PEFT's own goes over to that of the matrices, float32."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The base layer's output and the adapter's, (batch, outputs, height, width)."""
        if args or kwargs or not _is_plain(self, x):
            answer: Tensor = super().forward(x, *args, **kwargs)
            return answer
        (name,) = self.active_adapters
        down, up = self.lora_A[name], self.lora_B[name]
        inner = down._conv_forward(x, down.weight.to(x.dtype), None)
        product = up._conv_forward(inner, up.weight.to(x.dtype), None)
        total: Tensor = self.base_layer(x) + product * self.scaling[name]
        return total


def use_fused_layers(config: LoraConfig) -> None:
    """Has PEFT make these layers where `config` is injected. PEFT calls this way experimental: a test holds it."""
    config._register_custom_module({nn.Linear: _make_linear, nn.Conv2d: _make_conv})  # type: ignore[dict-item]


def _is_plain(layer: Linear | Conv2d, x: Tensor) -> bool:
    """Whether nothing is asked of a layer but the usual sum, in the format of its base layer."""
    (name,) = layer.active_adapters
    drops = layer.training and not isinstance(layer.lora_dropout[name], nn.Identity)
    elsewhere = layer.disable_adapters or layer.merged or name in layer.lora_variant
    mixed = torch.is_autocast_enabled(x.device.type) or x.dtype != layer.get_base_layer().weight.dtype
    return not (drops or elsewhere or mixed)


def _make_linear(target: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: Any) -> FusedLinear | None:
    """A fused layer around a plain linear layer; None for a quantised one or a subclass, which PEFT knows better."""
    is_plain = type(target) is nn.Linear and type(target.weight) is nn.Parameter
    return FusedLinear(target, adapter_name, config=config, **kwargs) if is_plain else None


def _make_conv(target: nn.Module, adapter_name: str, config: LoraConfig, **kwargs: Any) -> RoundedConv2d | None:
    """The same for a convolution."""
    return RoundedConv2d(target, adapter_name, config=config, **kwargs) if type(target) is nn.Conv2d else None
