"""An adapter's layer of our own: a frozen layer, and a change of its weight that learns."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from library.adapters.changes import Change, read_changes
from library.adapters.keys import ALPHA, LoraWeights
from library.adapters.kinds import Kind, Options, Size
from library.errors import InputError


class Wrapping(nn.Module):
    """A module in the place of a frozen layer, which it computes with."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        self.base_layer: Any = base

    @property
    def weight(self) -> Tensor:
        """The frozen weight, which other modules ask for its number format."""
        found: Tensor = self.base_layer.weight
        return found

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        found: Tensor | None = self.base_layer.bias
        return found

    def get_base_layer(self) -> nn.Module:
        """The frozen layer."""
        base: nn.Module = self.base_layer
        return base


class AdapterLayer(Wrapping, ABC):
    """y = base(x) + s F(drop(x), change), where F is what the frozen layer does with its weight.

    The change is made anew in each pass, in float32, and rounded to the format of x by itself: added to a weight in
    half precision, small changes would be lost. Kinds say what it is (`change`), how it begins (`start`), and which
    tensors a file has of it (`export`). All of its own parameters and buffers are its state.
    """

    kind = ""  # as `changes.Change` calls its files; a file of such a kind can give start values

    def __init__(self, base: Any, size: Size, options: Options) -> None:
        super().__init__(base)
        self.rank, self.alpha, self.strength = size.rank, size.alpha, 1.0
        self.options, self.is_enabled = options, True

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank

    def enable_adapters(self, enabled: bool) -> None:
        """Whether the change is added."""
        self.is_enabled = enabled

    def new(self, *shape: int) -> nn.Parameter:
        """A float32 parameter of zeros where the frozen weight is."""
        return nn.Parameter(torch.zeros(shape, device=self.weight.device))

    @abstractmethod
    def change(self) -> Tensor:
        """The change of the weight, float32, in its shape."""

    def bias_change(self) -> Tensor | None:
        """The change of the bias, if the kind has one."""
        return None

    @abstractmethod
    def begin(self, generator: torch.Generator) -> None:
        """Start values, drawn on the CPU, with which the change is nothing."""

    @abstractmethod
    def export(self, alpha: float) -> dict[str, Tensor]:
        """The tensors of the file by their last names, for a file in which every alpha is `alpha`."""

    def take(self, change: Change) -> None:  # noqa: B027  kinds whose files hold no parts have none
        """Start values from a file; shapes have been compared."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The frozen layer's output and the adapter's."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        if not self.is_enabled:
            return y
        side = self.side(functional.dropout(x, self.options.dropout, self.training)) * self.strength
        if self.training and self.options.module_dropout:
            side = side * (torch.rand((), device=x.device) >= self.options.module_dropout).to(side.dtype)
        return y + side

    def side(self, x: Tensor) -> Tensor:
        """What the change makes of the inputs."""
        with torch.autocast(x.device.type, enabled=False):
            change, bias = self.change(), self.bias_change()
            if self.training and self.options.rank_dropout:
                change = change * self.mask(len(change), change).reshape(-1, *(1,) * (change.ndim - 1))
            return self.apply_weight(x, change.to(x.dtype), None if bias is None else bias.to(x.dtype))

    def apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the frozen layer would make of the inputs if this were its weight."""
        if isinstance(self.base_layer, nn.Linear):
            return functional.linear(x, weight, bias)
        result: Tensor = self.base_layer._conv_forward(x, weight, bias)
        return result

    def mask(self, count: int, like: Tensor) -> Tensor:
        """Which of so many ranks or outputs are kept in this pass, as factors whose mean is 1."""
        kept = 1 - self.options.rank_dropout
        return (torch.rand(count, device=like.device) < kept).to(like.dtype) / kept

    def shared_alpha(self, alpha: float) -> dict[str, Tensor]:
        """The leaf that says a file's alpha."""
        return {ALPHA: torch.tensor(alpha)}


def take_over(own: Mapping[str, Tensor], given: Mapping[str, Tensor], refusal: str) -> None:
    """Puts tensors into those of the same names and shapes; InputError with the refusal where they are others."""
    if own.keys() != given.keys() or any(given[name].shape != tensor.shape for name, tensor in own.items()):
        raise InputError(refusal)
    for name, tensor in own.items():
        tensor.copy_(given[name])


def uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    """Values in +-1 / sqrt(inputs), as torch begins its linear layers."""
    drawn = torch.empty(like.shape)
    nn.init.kaiming_uniform_(drawn.flatten(1), a=math.sqrt(5), generator=generator)
    return drawn


def normal(like: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Normally distributed values with mean 0."""
    return torch.randn(like.shape, generator=generator) * deviation


@dataclass(frozen=True)
class OwnKind:
    """A kind of adapter whose layer is an `AdapterLayer`."""

    module: str
    layer: type[AdapterLayer]
    told: Mapping[str, str] = field(default_factory=dict)

    def fitted(self, options: Options) -> Kind:
        """Itself: its layers know all options."""
        return self

    def inject(self, model: nn.Module, sizes: Mapping[str, Size], options: Options) -> dict[str, AdapterLayer]:
        """Wraps the modules at these paths."""
        layers = {}
        for path, size in sizes.items():
            layer = self.layer(model.get_submodule(path), size, options)
            layer.train(model.training)
            model.set_submodule(path, layer)
            layers[path] = layer
        return layers

    @torch.no_grad()
    def start(self, layer: AdapterLayer, seed: int) -> None:
        """Start values that change nothing yet, the same on every device."""
        layer.begin(torch.Generator().manual_seed(seed))

    def parameters(self, layer: AdapterLayer) -> list[nn.Parameter]:
        """What learns in a layer."""
        return list(layer.parameters(recurse=False))

    def faster(self, layer: AdapterLayer) -> list[nn.Parameter]:
        """The second matrix."""
        up = getattr(layer, "up", None)
        return [up] if isinstance(up, nn.Parameter) else []

    def weights(self, layer: AdapterLayer) -> LoraWeights:
        """Both matrices."""
        down, up = getattr(layer, "down", None), getattr(layer, "up", None)
        if down is None or up is None:
            raise TypeError(f"{self.module} has no two matrices.")
        return LoraWeights(down.detach(), up.detach(), layer.alpha)

    def state(self, layer: AdapterLayer) -> dict[str, Tensor]:
        """Its own parameters and buffers."""
        own = (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
        return {name: tensor.detach() for name, tensor in own}

    def restore(self, layer: AdapterLayer, state: Mapping[str, Tensor], stem: str) -> None:
        """Takes over what `state` gave."""
        take_over(
            self.state(layer), state, f"the state does not fit this network at {stem}; it is of another kind or rank."
        )

    def export(self, layer: AdapterLayer, alpha: float) -> dict[str, Tensor]:
        """The tensors of the file."""
        return {name: tensor.detach() for name, tensor in layer.export(alpha).items()}

    def read(self, path: Path, layers: Mapping[str, AdapterLayer]) -> Mapping[str, Change]:
        """The changes in a file, without cores."""
        return {stem: change.coreless() for stem, change in read_changes(path).items()}

    def take(self, layer: AdapterLayer, change: Change, stem: str) -> None:
        """Start values from a file of the same kind."""
        if not layer.kind:
            raise InputError(
                "network_weights cannot be set with this network_module: its files hold the change and not its parts, "
                "so that it cannot go on from one; use resume."
            )
        if change.kind != layer.kind or change.rank not in (None, layer.rank):
            what = change.kind if change.rank is None else f"{change.kind} of rank {change.rank}"
            raise InputError(
                f"the file has {what} at {stem}, and this network is {layer.kind} of rank {layer.rank}: "
                "set network_module and network_dim like it."
            )
        own = layer.export(1.0)
        for leaf, tensor in own.items():
            if leaf != ALPHA and (leaf not in change.leaves or change.leaves[leaf].numel() != tensor.numel()):
                raise InputError(f"{stem} does not fit this network: its {leaf} is missing or of another shape.")
        try:
            layer.take(change)
        except InputError as error:
            raise InputError.of(f"{stem}: {sentence}" for sentence in error.sentences) from None

    def scaling(self, layer: AdapterLayer) -> float:
        """What the layer's effect is multiplied with."""
        return layer.strength

    def set_scaling(self, layer: AdapterLayer, scaling: float) -> None:
        """Sets what the layer's effect is multiplied with."""
        layer.strength = scaling
