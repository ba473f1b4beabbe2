"""The weights of chosen layers themselves: their difference from the base model, and that of norms."""

import torch
from torch import Tensor, nn

from library.adapters.changes import Change
from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind


class FullLayer(AdapterLayer):
    """A difference in the shape of the weight, and one of the bias where there is one; alpha and rank mean nothing."""

    kind = "full"
    names = ("diff", "diff_b")

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.diff = self.new(*self.weight.shape)
        self.diff_b = None if self.bias is None else self.new(*self.bias.shape)

    def begin(self, generator: torch.Generator) -> None:
        """No difference."""
        self.diff.zero_()
        if self.diff_b is not None:
            self.diff_b.zero_()

    def change(self) -> Tensor:
        """The difference."""
        return self.diff

    def bias_change(self) -> Tensor | None:
        """The bias's difference."""
        return self.diff_b

    def export(self, alpha: float) -> dict[str, Tensor]:
        """LyCORIS's leaves; they have no alpha."""
        own = dict(zip(self.names, (self.diff, self.diff_b), strict=True))
        return {name: tensor for name, tensor in own.items() if tensor is not None}

    def take(self, change: Change) -> None:
        """The differences of a file."""
        for name, own in self.export(1.0).items():
            own.copy_(change.leaves[name].reshape(own.shape))


class NormLayer(FullLayer):
    """The same of a norm: its result is linear in weight and bias, so that the difference is added by itself."""

    kind = "norm"
    names = ("w_norm", "b_norm")

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The norm with the differences as its weight and bias."""
        base = self.base_layer
        if isinstance(base, nn.GroupNorm):
            return nn.functional.group_norm(x, base.num_groups, weight, bias, base.eps)
        return nn.functional.layer_norm(x, base.normalized_shape, weight, bias, base.eps)


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm with weight and bias that can learn."""
    return isinstance(module, nn.LayerNorm | nn.GroupNorm) and module.weight is not None and module.bias is not None


FULL = OwnKind("lycoris.kohya", FullLayer, {"algo": "full"})
NORM = OwnKind("lycoris.kohya", NormLayer, {"train_norm": "True"})
