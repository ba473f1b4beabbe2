"""What is attached to a frozen model and learns there, and its tensors by the names of the file."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from library.adapters.full import is_norm
from library.adapters.keys import LoraWeights, part_of
from library.adapters.kinds import Kind, Options, Size
from library.adapters.layer import Wrapping
from library.errors import InputError, blaming
from library.log import warn
from library.lookup import ADAPTERS, NORMS, resolve
from library.seeds import derive_seed


class Network:
    """Adapters on the layers of one or more modules, made by `attach`."""

    def __init__(self, kind: Kind, modules: Mapping[str, nn.Module], alpha: float) -> None:
        self.kind, self.modules, self.alpha = kind, dict(modules), alpha
        # part -> stem -> the layer
        self.layers: dict[str, dict[str, Any]] = {}
        # Norms learn beside any kind, in a way of their own.
        self.norms: set[str] = set()

    def kind_of(self, stem: str) -> Kind:
        """The kind of a layer's adapter."""
        norm: Kind = resolve(NORMS)
        return norm if stem in self.norms else self.kind

    def parameters(self, part: str) -> list[nn.Parameter]:
        """What learns in "unet" or "text_encoder", float32; empty if nothing is attached there."""
        return [each for parameters in self.by_layer(part).values() for each in parameters]

    def by_layer(self, part: str) -> dict[str, list[nn.Parameter]]:
        """What learns in each layer of a part, by stem."""
        return {stem: self.kind_of(stem).parameters(layer) for stem, layer in self.layers.get(part, {}).items()}

    def faster(self, part: str) -> list[nn.Parameter]:
        """Those of the parameters that LoRA+ lets learn faster."""
        layers = self.layers.get(part, {})
        return [each for stem, layer in layers.items() for each in self.kind_of(stem).faster(layer)]

    def weights(self) -> dict[str, LoraWeights]:
        """Every layer's tensors as they are now, by stem: no copies."""
        return {stem: self.kind.weights(layer) for stem, layer in self._stems()}

    def state_dict(self) -> dict[str, Tensor]:
        """Copies on the CPU of all that learns, from which a run goes on exactly."""
        return self._named({stem: self.kind_of(stem).state(layer) for stem, layer in self._stems()})

    def export(self) -> dict[str, Tensor]:
        """Copies on the CPU in float32 by the names of the file, one alpha for all: what every UI reads."""
        return self._named({stem: self.kind_of(stem).export(layer, self.alpha) for stem, layer in self._stems()})

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave: exactly the same layers.

        Raises InputError if a layer is missing, unknown, or of another shape.
        """
        leaves: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            stem, _, leaf = name.partition(".")
            leaves.setdefault(stem, {})[leaf] = tensor
        for stem, layer in self._matching(leaves, "the state", whole=True):
            self.kind_of(stem).restore(layer, leaves[stem], stem)

    @torch.no_grad()
    def start_from(self, path: Path) -> None:
        """Start values from a file of the same kind in either layout (`network_weights`).

        Layers that the file has not keep their own start values, which is said; so is a part of the file for
        which this network has no layers at all.

        Raises InputError for a layer that is not in the network, and for another rank.
        """
        changes = self.kind.read(path, dict(self._stems()))
        strangers = {part_of(stem) for stem in changes} - self.layers.keys() - {None}
        for part in sorted(str(part) for part in strangers):
            warn(f"network_weights: {path} also has layers for the {part}, which this run does not train.")
        kept = {stem: change for stem, change in changes.items() if part_of(stem) not in strangers}
        for stem, layer in self._matching(kept, str(path), whole=False):
            try:
                with blaming(path):
                    self.kind_of(stem).take(layer, kept[stem], stem)
            except InputError as error:
                told = (each if str(path) in each else f"{path}: {each}" for each in error.sentences)
                raise InputError.of(told) from None

    @contextmanager
    def scaled(self, factor: float) -> Iterator[None]:
        """Within it, the adapters' effect is multiplied by `factor`."""
        kinds = [(self.kind_of(stem), layer) for stem, layer in self._stems()]
        before = [(kind, layer, kind.scaling(layer)) for kind, layer in kinds]
        try:
            for kind, layer, scaling in before:
                kind.set_scaling(layer, scaling * factor)
            yield
        finally:
            for kind, layer, scaling in before:
                kind.set_scaling(layer, scaling)

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
            wrapped = [pair for pair in module.named_modules() if isinstance(pair[1], BaseTunerLayer | Wrapping)]
            for path, layer in wrapped:
                module.set_submodule(path, layer.get_base_layer())
            if hasattr(module, "peft_config"):
                del module.peft_config
        self.layers.clear()

    def _stems(self) -> Iterator[tuple[str, Any]]:
        for layers in self.layers.values():
            yield from layers.items()

    @staticmethod
    def _named(leaves: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return {
            f"{stem}.{leaf}": tensor.to("cpu", copy=True)
            for stem, own in leaves.items()
            for leaf, tensor in own.items()
        }

    def _matching(self, given: Collection[str], name: str, whole: bool) -> Iterator[tuple[str, Any]]:
        """The layers with these stems, in the order of the file. Raises InputError where they are not the same."""
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
        return ((stem, own[stem]) for stem in given)


def attach(
    kind: str,
    modules: Mapping[str, nn.Module],
    layers: Mapping[str, Mapping[str, str]],
    dim: int | Mapping[str, int],
    alpha: float | Mapping[str, float],
    seed: int,
    options: Options | None = None,
) -> Network:
    """Puts adapters on a model, which is frozen, and gives them their start values.

    Args:
        kind: a name of `lookup.ADAPTERS`
        modules: part -> module, such as {"unet": ..., "text_encoder": ...}
        layers: part -> module path -> stem of the layer's names in the file; norms among them learn themselves
        dim: the rank; or each stem's own rank (`keys.dims_of`), and layers that are not among them get none
        alpha: the change is scaled by alpha / rank; or each stem's own, of which a file has the most common
        seed: with the stem, decides a layer's start values: the same on every device and with whatever other
            layers
        options: dropouts, and what this kind alone is told
    """
    options = options or Options()
    sizes = {part: _sizes(chosen, dim, alpha) for part, chosen in layers.items()}
    every = [size for part in sizes.values() for size in part.values()]
    if any(size.rank < 1 or size.alpha <= 0 for size in every):
        raise InputError(f"network_dim must be at least 1 and network_alpha above 0, not {dim} and {alpha}.")
    if not every:
        raise InputError("there is no layer for an adapter: the file given by network_weights fits no layer.")
    common = Counter(size.alpha for size in every).most_common(1)[0][0]
    network = Network(resolve(ADAPTERS[kind]).fitted(options), modules, common)
    norm: Kind = resolve(NORMS)
    for part, chosen in sizes.items():
        modules[part].requires_grad_(False)
        if not chosen:
            continue
        norms = {path: size for path, size in chosen.items() if is_norm(modules[part].get_submodule(path))}
        rest = {path: size for path, size in chosen.items() if path not in norms}
        injected = network.kind.inject(modules[part], rest, options) if rest else {}
        injected |= norm.inject(modules[part], norms, options)
        network.norms |= {layers[part][path] for path in norms}
        network.layers[part] = {layers[part][path]: injected[path] for path in chosen if path in injected}
        for stem, layer in network.layers[part].items():
            network.kind_of(stem).start(layer, derive_seed(seed, stem))
    return network


def _sizes(
    chosen: Mapping[str, str], dim: int | Mapping[str, int], alpha: float | Mapping[str, float]
) -> dict[str, Size]:
    """Module path -> size, without the layers that have none."""
    return {
        path: Size(
            dim if isinstance(dim, int) else dim[stem], alpha if isinstance(alpha, int | float) else alpha[stem]
        )
        for path, stem in chosen.items()
        if isinstance(dim, int) or stem in dim
    }
