"""The kind of adapter that is a hypernetwork: how a run makes one, goes on with one, and starts from a file."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.adapters.hypernetwork import (
    READERS,
    ContextLayer,
    ContextNetwork,
    Form,
    network_of,
    networks_of,
    wrap,
)
from library.adapters.hypernetwork_files import read_hypernetwork
from library.adapters.keys import LoraWeights
from library.adapters.kinds import Kind, Options, Size
from library.adapters.layer import take_over
from library.errors import InputError
from library.log import warn


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
        refusal = f"the state does not fit this hypernetwork at {stem}; its layer_structure is another."
        take_over(self.state(layer), state, refusal)

    def export(self, layer: ContextLayer, alpha: float) -> dict[str, Tensor]:
        """The network's tensors; the file itself has them by width (hypernetwork_files.py)."""
        return self.state(layer)

    def read(self, path: Path, layers: Mapping[str, ContextLayer]) -> Mapping[str, ContextNetwork]:
        """The networks of a file for the widths of these layers; those for others are said to be left out."""
        found = read_hypernetwork(path)
        if found is None:
            raise InputError(f"{path} is no hypernetwork, and network_module is one.")
        own = dict(zip(layers, networks_of(layers), strict=True))
        given = {
            stem: found.pairs[network.width][READERS.index(reader)]
            for stem, (reader, network) in own.items()
            if network.width in found.pairs
        }
        strange = sorted(found.pairs.keys() - {network.width for _, network in own.values()})
        if not given:
            raise InputError(f"{path} is for contexts of the widths {listed(strange)}, and the model has none of them.")
        if strange:
            others = f"networks for contexts of the widths {listed(strange)}"
            warn(f"network_weights: {path} also has {others}, which the model has not.")
        return given

    def take(self, layer: ContextLayer, change: ContextNetwork, stem: str) -> None:
        """Start values from a network of the same form."""
        own, form = network_of(layer), change.form
        if form.does_as(own.form):
            take_over(self.state(layer), dict(change.named_parameters()), f"{stem} is of another shape.")
            return
        remedy = f'set network_args = ["layer_structure={listed(form.structure)}", "activation_func={form.activation}"]'
        if form.layer_norm or form.activate_output and form.activation != "linear":
            remedy = "it has norms, or an activation at its end, and neither is trained here"
        raise InputError(f"the file's networks are not built as those of this run; {remedy}.")

    def scaling(self, layer: ContextLayer) -> float:
        """What the network's effect is multiplied with."""
        return network_of(layer).strength

    def set_scaling(self, layer: ContextLayer, scaling: float) -> None:
        """Sets what the network's effect is multiplied with."""
        network_of(layer).strength = scaling


def listed(numbers: Iterable[float]) -> str:
    """Numbers with commas between them."""
    return ",".join(f"{number:g}" for number in numbers)


HYPERNETWORK = Hypernetwork()
