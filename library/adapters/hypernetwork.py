"""Hypernetworks as AUTOMATIC1111's web UI has them: small networks that change what attention reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from library.adapters.changes import Change
from library.adapters.keys import LoraWeights
from library.adapters.kinds import Kind, Options, Size
from library.adapters.layer import Wrapping, uniform
from library.errors import InputError
from library.lookup import ACTIVATIONS, resolve

READERS = ("to_k", "to_v")  # the layers of attention that read its context, in the order of the pairs in a file


@dataclass(frozen=True)
class Form:
    """How a hypernetwork's networks are built: widths as multiples of the context's, and what follows each layer."""

    structure: tuple[float, ...] = (1, 2, 1)
    activation: str = "relu"
    activate_output: bool = False
    layer_norm: bool = False

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


class Hypernetwork:
    """The kind of adapter: of all layers that share a network, the first stands for it."""

    module = "hypernetwork"
    told: Mapping[str, str] = {}

    def fitted(self, options: Options) -> Kind:
        """Itself."""
        return self

    def inject(self, model: nn.Module, sizes: Mapping[str, Size], options: Options) -> dict[str, ContextLayer]:
        """Wraps layers of attention; rank and alpha mean nothing."""
        told: Mapping[str, Any] = options.arguments
        form = Form(told.get("layer_structure", Form.structure), told.get("activation_func", Form.activation))
        shared: dict[tuple[int, str], ContextNetwork] = {}
        layers = {}
        for path in sizes:
            base: Any = model.get_submodule(path)
            key = base.in_features, path.rpartition(".")[2]
            is_first = key not in shared
            if is_first:
                shared[key] = ContextNetwork(base.in_features, form, options.dropout).to(base.weight.device)
            layer = wrap(model, path, [shared[key]])
            if is_first:
                layers[path] = layer
        return layers

    def start(self, layer: ContextLayer, seed: int) -> None:
        """Start values that change nothing yet."""
        network_of(layer).begin(torch.Generator().manual_seed(seed))

    def parameters(self, layer: ContextLayer) -> list[nn.Parameter]:
        """All of the network."""
        return list(network_of(layer).parameters())

    def faster(self, layer: ContextLayer) -> list[nn.Parameter]:
        """None: LoRA+ is for pairs of matrices."""
        return []

    def weights(self, layer: ContextLayer) -> LoraWeights:
        """It has none."""
        raise TypeError("a hypernetwork has no two matrices.")

    def state(self, layer: ContextLayer) -> dict[str, Tensor]:
        """The network's tensors."""
        return {name: tensor.detach() for name, tensor in network_of(layer).named_parameters()}

    def restore(self, layer: ContextLayer, state: Mapping[str, Tensor], stem: str) -> None:
        """Takes over what `state` gave."""
        own = self.state(layer)
        if own.keys() != state.keys() or any(state[name].shape != own[name].shape for name in own):
            raise InputError(f"the state does not fit this hypernetwork at {stem}; its layer_structure is another.")
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def export(self, layer: ContextLayer, alpha: float) -> dict[str, Tensor]:
        """The network's tensors; the file itself has them by width (hypernetwork_files.py)."""
        return self.state(layer)

    def take(self, layer: ContextLayer, change: Change, stem: str) -> None:
        """No file of changes of weights fits."""
        raise InputError("network_weights cannot be set with network_module = hypernetwork; use resume.")

    def scaling(self, layer: ContextLayer) -> float:
        """What the network's effect is multiplied with."""
        return network_of(layer).strength

    def set_scaling(self, layer: ContextLayer, scaling: float) -> None:
        """Sets what the network's effect is multiplied with."""
        network_of(layer).strength = scaling


def networks_of(layers: Mapping[str, ContextLayer]) -> list[tuple[str, ContextNetwork]]:
    """The networks of layers by stem, each with which of READERS it is for."""
    return [(stem[-len(READERS[0]) :], network_of(layer)) for stem, layer in layers.items()]


def network_of(layer: ContextLayer) -> ContextNetwork:
    """The one network of a layer that trains."""
    [network] = layer.applied
    return network


HYPERNETWORK = Hypernetwork()
