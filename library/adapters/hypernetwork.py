"""Hypernetworks as AUTOMATIC1111's web UI has them: small networks that change what attention reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from library.adapters.layer import Wrapping, uniform
from library.lookup import ACTIVATIONS, resolve

READERS = ("to_k", "to_v")  # the layers of attention that read its context, in the order of the pairs in a file


@dataclass(frozen=True)
class Form:
    """How a hypernetwork's networks are built: widths as multiples of the context's, and what follows each layer."""

    structure: tuple[float, ...] = (1, 2, 1)
    activation: str = "relu"
    activate_output: bool = False
    layer_norm: bool = False

    def does_as(self, other: "Form") -> bool:
        """Whether both compute the same from the same numbers; where nothing is applied, its place is all one."""
        output = other.activate_output if self.activation == "linear" else self.activate_output
        return replace(self, activate_output=output) == other

    def sizes(self, width: int) -> list[int]:
        """The widths of a network for a context of this width, from its input to its output."""
        return [int(width * factor) for factor in self.structure]


class ContextNetwork(nn.Module):
    """x -> F(x), which is added to a context (batch, tokens, width); float32, computed in the format of x.

    `linear` holds the layers by the numbers that they have in files: activations and norms count too. All layers of
    attention that read a context of this width share it.
    """

    def __init__(self, width: int, form: Form, dropout: float = 0.0) -> None:
        super().__init__()
        self.width, self.form, self.dropout = width, form, dropout
        self.strength, self.is_enabled = 1.0, True
        sizes, layers = form.sizes(width), list[nn.Module]()
        for number, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False), start=2):
            layers.append(nn.Linear(before, after))
            if form.activation != "linear" and (number < len(sizes) or form.activate_output):
                layers.append(resolve(ACTIVATIONS[form.activation])())
            if form.layer_norm:
                layers.append(nn.LayerNorm(after))
        self.linear = nn.Sequential(*layers)

    @property
    def matrices(self) -> list[nn.Linear]:
        """The linear layers."""
        return [layer for layer in self.linear if isinstance(layer, nn.Linear)]

    @torch.no_grad()
    def begin(self, generator: torch.Generator) -> None:
        """Start values, drawn on the CPU, with which F is nothing: the last matrix is zero."""
        for layer in self.matrices:
            layer.weight.copy_(uniform(layer.weight, generator))
            layer.bias.zero_()
        self.matrices[-1].weight.zero_()

    def forward(self, x: Tensor) -> Tensor:
        """What is added to the context, times the strength."""
        y = x
        with torch.autocast(x.device.type, enabled=False):
            for layer in self.linear:
                if isinstance(layer, nn.Linear):
                    y = y if y is x else functional.dropout(y, self.dropout, self.training)
                    y = functional.linear(y, layer.weight.to(x.dtype), layer.bias.to(x.dtype))
                elif isinstance(layer, nn.LayerNorm):
                    weights = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
                    y = functional.layer_norm(y, layer.normalized_shape, *weights, layer.eps)
                else:
                    y = layer(y)
        return y * self.strength


class ContextLayer(Wrapping):
    """y = W (x + F(x)), for one network F or for several after each other.

    W F(x) is computed by itself, for in half precision a small F(x) would be lost beside x.
    """

    def __init__(self, base: nn.Module, networks: Sequence[ContextNetwork]) -> None:
        super().__init__(base)
        self.networks = nn.ModuleList(networks)

    @property
    def applied(self) -> list[ContextNetwork]:
        """The networks in their order."""
        return cast(list[ContextNetwork], list(self.networks))

    def enable_adapters(self, enabled: bool) -> None:
        """Whether anything is added, here and in all layers that share the networks."""
        for network in self.applied:
            network.is_enabled = enabled

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The frozen layer's output for the changed context."""
        y: Tensor = self.base_layer(x, *args, **kwargs)
        added: Tensor | None = None
        for network in self.applied:
            if network.is_enabled:
                more = network(x if added is None else x + added)
                added = more if added is None else added + more
        return y if added is None else y + functional.linear(added, self.weight.to(added.dtype))


def wrap(model: nn.Module, path: str, networks: Sequence[ContextNetwork]) -> ContextLayer:
    """Puts networks in front of the layer at a path."""
    layer = ContextLayer(model.get_submodule(path), networks)
    layer.train(model.training)
    model.set_submodule(path, layer)
    return layer


def readers_of(unet: nn.Module) -> dict[str, int]:
    """The paths of all layers of attention that read a context -> its width."""
    paths = (path for path, layer in unet.named_modules() if path.endswith(READERS) and isinstance(layer, nn.Linear))
    return {path: unet.get_submodule(path).in_features for path in paths}  # type: ignore[misc]  # a Linear has it


def networks_of(layers: Mapping[str, ContextLayer]) -> list[tuple[str, ContextNetwork]]:
    """The networks of layers by stem, each with which of READERS it is for."""
    return [(stem[-len(READERS[0]) :], network_of(layer)) for stem, layer in layers.items()]


def network_of(layer: ContextLayer) -> ContextNetwork:
    """The one network of a layer that trains."""
    [network] = layer.applied
    return network
