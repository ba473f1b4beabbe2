"""What is attached to a frozen model and learns there, and its tensors by the names of the file."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypedDict, Unpack

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from library.adapters.keys import LoraWeights, parse_adapter, part_of, read_adapter, to_kohya
from library.errors import InputError
from library.log import warn
from library.lookup import ADAPTERS, resolve
from library.seeds import derive_seed


class Kind(Protocol):
    """A kind of adapter, as `lookup.ADAPTERS` names them; `lora.Lora` is one."""

    module: str

    def inject(
        self,
        model: nn.Module,
        ranks: Mapping[str, int],
        alpha: float,
        dropout: float,
        arguments: Collection[str],
        fused: bool,
    ) -> dict[str, Any]:
        """Wraps the modules at these paths, freezes all else, and returns the wrapping layers by path."""

    def start(self, layer: Any, seed: int) -> None:
        """Start values that change nothing yet."""

    def parameters(self, layer: Any) -> list[nn.Parameter]:
        """What learns in a layer."""

    def weights(self, layer: Any) -> LoraWeights:
        """The layer's tensors as they are now: no copies."""

    def load(self, layer: Any, weights: LoraWeights, stem: str) -> None:
        """Takes over values of the same shapes; `stem` names the layer in errors."""

    def scaling(self, layer: Any) -> float:
        """What the layer's effect is multiplied with."""

    def set_scaling(self, layer: Any, scaling: float) -> None:
        """Sets what the layer's effect is multiplied with."""


class Options(TypedDict, total=False):
    """What an adapter can also be told: the share of inputs to drop, the user's network_args, and to be fast."""

    dropout: float
    arguments: Collection[str]
    fused: bool


class Network:
    """Adapters on the layers of one or more modules, made by `attach`."""

    def __init__(self, kind: Kind, modules: Mapping[str, nn.Module], alpha: float) -> None:
        self.kind, self.modules, self.alpha = kind, dict(modules), alpha
        # part -> stem -> the PEFT layer
        self.layers: dict[str, dict[str, Any]] = {}

    def parameters(self, part: str) -> list[nn.Parameter]:
        """What learns in "unet" or "text_encoder", float32; empty if nothing is attached there."""
        return [each for layer in self.layers.get(part, {}).values() for each in self.kind.parameters(layer)]

    def weights(self) -> dict[str, LoraWeights]:
        """Every layer's tensors as they are now, by stem: no copies."""
        return {stem: self.kind.weights(layer) for stem, layer in self._stems()}

    def state_dict(self) -> dict[str, Tensor]:
        """Copies on the CPU in float32 by kohya's names: 4-D where the base weight is, one alpha for all."""
        state = to_kohya(self.weights(), self.alpha)
        return {name: tensor.to("cpu", copy=True) for name, tensor in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave: exactly the same layers.

        Raises InputError if a layer is missing, unknown, or of another shape.
        """
        self._load(parse_adapter(state, {}, "the state"), "the state", whole=True)

    def start_from(self, path: Path) -> None:
        """Start values from a LoRA file in either layout (`network_weights`).

        Layers that the file has not keep their own start values, which is said; so is a part of the file for
        which this network has no layers at all.

        Raises InputError for a layer that is not in the network, and for another rank.
        """
        layers = read_adapter(path)
        strangers = {part_of(stem) for stem in layers} - self.layers.keys() - {None}
        for part in sorted(str(part) for part in strangers):
            warn(f"network_weights: {path} also has layers for the {part}, which this run does not train.")
        kept = {stem: weights for stem, weights in layers.items() if part_of(stem) not in strangers}
        self._load(kept, str(path), whole=False)

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Within it, the adapters' effect is multiplied by `factor`."""
        before = [(layer, self.kind.scaling(layer)) for _, layer in self._stems()]
        try:
            for layer, scaling in before:
                self.kind.set_scaling(layer, scaling * factor)
            yield
        finally:
            for layer, scaling in before:
                self.kind.set_scaling(layer, scaling)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within it, the modules compute as the base model does."""
        before = [(each, each.requires_grad) for part in self.layers for each in self.parameters(part)]
        try:
            for _, layer in self._stems():
                layer.enable_adapters(False)
            yield
        finally:
            for _, layer in self._stems():
                layer.enable_adapters(True)
            # PEFT takes the gradients away and gives them to all.
            for parameter, requires_grad in before:
                parameter.requires_grad_(requires_grad)

    def detach(self) -> None:
        """Takes the adapters off; the modules are the base model again, still frozen."""
        for part in self.layers:
            module = self.modules[part]
            wrapped = [pair for pair in module.named_modules() if isinstance(pair[1], BaseTunerLayer)]
            for path, layer in wrapped:
                parent, _, name = path.rpartition(".")
                setattr(module.get_submodule(parent), name, layer.get_base_layer())
            del module.peft_config
        self.layers.clear()

    def _stems(self) -> Iterator[tuple[str, Any]]:
        for layers in self.layers.values():
            yield from layers.items()

    @torch.no_grad()
    def _load(self, given: Mapping[str, LoraWeights], name: str, whole: bool) -> None:
        own = dict(self._stems())
        unknown = [stem for stem in given if stem not in own]
        missing = [stem for stem in own if stem not in given]
        if unknown:
            raise InputError(
                f"{name} has {len(unknown)} layers that this network has not, such as {unknown[0]}; "
                "it was made for another base model or with other layers."
            )
        if missing:
            lack = f"{name} lacks {len(missing)} layers of this network, such as {missing[0]}"
            if whole:
                raise InputError(f"{lack}.")
            warn(f"{lack}; they start anew.")
        for stem, weights in given.items():
            self.kind.load(own[stem], weights, stem)


def attach(
    kind: str,
    modules: Mapping[str, nn.Module],
    layers: Mapping[str, Mapping[str, str]],
    dim: int | Mapping[str, int],
    alpha: float,
    seed: int,
    **options: Unpack[Options],
) -> Network:
    """Puts adapters on a model, which is frozen, and gives them their start values.

    Args:
        kind: a name of `lookup.ADAPTERS`
        modules: part -> module, such as {"unet": ..., "text_encoder": ...}
        layers: part -> module path -> stem of the layer's names in the file
        dim: the rank; or each stem's own rank (`keys.dims_of`), and layers that are not among them get none
        alpha: the product is scaled by alpha / rank
        seed: with the stem, decides a layer's start values: the same on every device and with whatever other
            layers
        options: `dropout` (0 .. 1), `arguments`, the user's network_args, and `fused`, whether layers may be
            computed in one piece
    """
    ranks = {
        part: {path: _rank(dim, stem) for path, stem in chosen.items() if isinstance(dim, int) or stem in dim}
        for part, chosen in layers.items()
    }
    if alpha <= 0 or any(rank < 1 for part in ranks.values() for rank in part.values()):
        raise InputError(f"network_dim must be at least 1 and network_alpha above 0, not {dim} and {alpha}.")
    if not any(ranks.values()):
        raise InputError("there is no layer for an adapter: the file given by network_weights fits no layer.")
    network = Network(resolve(ADAPTERS[kind]), modules, alpha)
    for part, chosen in ranks.items():
        modules[part].requires_grad_(False)
        if not chosen:
            continue
        told = (options.get("dropout", 0.0), options.get("arguments", ()), options.get("fused", True))
        injected = network.kind.inject(modules[part], chosen, alpha, *told)
        network.layers[part] = {layers[part][path]: injected[path] for path in chosen}
        for stem, layer in network.layers[part].items():
            network.kind.start(layer, derive_seed(seed, stem))
    return network


def _rank(dim: int | Mapping[str, int], stem: str) -> int:
    return dim if isinstance(dim, int) else dim[stem]
