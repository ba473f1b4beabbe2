"""Adapter files put on a model, several at once, and taken off again without a trace."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.adapters.changes import Change, read_changes
from library.adapters.full import is_norm
from library.adapters.hypernetwork import READERS, ContextNetwork, readers_of, wrap
from library.adapters.hypernetwork_files import HypernetworkFile, read_hypernetwork
from library.adapters.keys import part_of
from library.errors import InputError
from library.log import warn


class Merged:
    """Adapter files at their strengths, added to the weights of modules: W + the sum of strength * change.

    The sum is formed in float32 and rounded once to the weights' own number format. The weights before are
    kept, so `restore` is exact, at the price of one copy of every changed weight on its device. Hypernetworks are put
    in front of the layers that they change the input of.
    """

    def __init__(self) -> None:
        self._before: list[tuple[nn.Parameter, Tensor]] = []
        self._wrapped: list[tuple[nn.Module, str]] = []

    def add(self, module: Any, changes: Sequence[tuple[float, Change]]) -> None:
        """Adds the changes, (strength, layer) each, to one module's weight and, where they have any, to its bias."""
        weight = module.weight
        total = weight.detach().float()
        for strength, change in changes:
            total = total + strength * change.of(weight)
        self._replace(weight, total)
        biases = [(strength, change.bias) for strength, change in changes if change.bias is not None]
        if biases:
            bias = module.bias
            self._replace(bias, sum((factor * each.to(bias.device).float() for factor, each in biases), bias.float()))

    def wear(self, unet: nn.Module, files: Sequence[tuple[float, HypernetworkFile]]) -> None:
        """Has attention read its context through hypernetworks, (strength, file) each, in their order."""
        for path, width in readers_of(unet).items():
            place = READERS.index(path.rpartition(".")[2])
            networks: list[ContextNetwork] = []
            for strength, file in files:
                if width in file.pairs:
                    network = file.pairs[width][place].to(unet.get_parameter(f"{path}.weight").device)
                    network.strength = strength
                    networks.append(network)
            if networks:
                wrap(unet, path, networks)
                self._wrapped.append((unet, path))

    @torch.no_grad()
    def _replace(self, parameter: nn.Parameter, values: Tensor) -> None:
        self._before.append((parameter, parameter.detach().clone()))
        parameter.copy_(values)

    @torch.no_grad()
    def restore(self) -> None:
        """The weights as they were before, bit for bit."""
        for module, path in self._wrapped:
            base = module.get_submodule(path).get_base_layer()  # type: ignore[operator]  # it was wrapped above
            module.set_submodule(path, base)
        self._wrapped.clear()
        for weight, before in self._before:
            weight.copy_(before)
        self._before.clear()


def load_adapters(
    files: Sequence[tuple[Path, float]],
    modules: Mapping[str, nn.Module],
    layers: Mapping[str, Mapping[str, str]],
) -> Merged:
    """Merges adapter files of any kind and rank, in kohya's or diffusers' layout, at the given strengths into a model.

    Hypernetworks are put on the UNet instead, in their order.

    Args:
        files: (path, strength) each; a strength may be negative, and 0 leaves a file out
        modules: part -> module, such as {"unet": ..., "text_encoder": ...}
        layers: part -> module path -> stem of the layer's names in a file. Other linear and convolution
            layers get
            their stems by the same rule, so files that adapt more layers fit too

    Raises InputError, before any weight is changed, for a file with layers that the model has not or whose
    shapes differ. A file without any layer for a part is fine; one that lacks some layers of a part is said
    to.
    """
    changes: dict[str, list[tuple[float, Change]]] = {}
    targets = {stem: each for part in layers for stem, each in _targets(modules[part], layers[part]).items()}
    hypernetworks = []
    for path, strength in files:
        if hypernetwork := read_hypernetwork(path):
            _check_widths(hypernetwork, modules["unet"], str(path))
            hypernetworks += [(strength, hypernetwork)] if strength else []
            continue
        found = read_changes(path)
        _check(found, targets, str(path))
        _say_missing(found, layers, str(path))
        for stem, layer in found.items():
            changes.setdefault(stem, []).append((strength, layer))
    merged = Merged()
    for stem, given in changes.items():
        if any(strength for strength, _ in given):
            merged.add(targets[stem], given)
    if hypernetworks:
        merged.wear(modules["unet"], hypernetworks)
    return merged


def _targets(module: nn.Module, layers: Mapping[str, str]) -> dict[str, nn.Module]:
    """Stem -> layer, for every layer that can be adapted, not only those that ours are trained on."""
    path, stem = next(iter(layers.items()))
    flat = path.replace(".", "_")
    targets = {}
    if stem.endswith(flat):
        prefix = stem.removesuffix(flat)
        candidates = {name: each for name, each in module.named_modules() if can_carry(each)}
        targets = {prefix + name.replace(".", "_"): each for name, each in candidates.items()}
    return targets | {stem: module.get_submodule(path) for path, stem in layers.items()}


def _check(found: Mapping[str, Change], targets: Mapping[str, nn.Module], name: str) -> None:
    unknown = [stem for stem in found if stem not in targets]
    if unknown:
        raise InputError(
            f"{name} has {len(unknown)} layers that the base model has not, such as {unknown[0]}; "
            "it was made for another base model."
        )
    for stem, change in found.items():
        needed = tuple(targets[stem].get_parameter("weight").shape)
        if not change.fits(needed) or change.bias is not None and targets[stem].bias is None:
            raise InputError(
                f"{name} does not fit the base model: {stem} is made for a weight of shape {change.shape}, and the "
                f"model's has {needed}."
            )


def _check_widths(found: HypernetworkFile, unet: nn.Module, name: str) -> None:
    contexts = set(readers_of(unet).values())
    if strange := sorted(found.pairs.keys() - contexts):
        raise InputError(
            f"{name} does not fit the base model: it is a hypernetwork for contexts of width {strange[0]}, and the "
            f"model's are {', '.join(map(str, sorted(contexts)))}."
        )


def can_carry(module: nn.Module) -> bool:
    """Whether an adapter can change a module."""
    return isinstance(module, nn.Linear | nn.Conv2d) or is_norm(module)


def _say_missing(found: Mapping[str, Change], layers: Mapping[str, Mapping[str, str]], name: str) -> None:
    parts = {part_of(stem) for stem in found}
    wanted = [stem for part, chosen in layers.items() if part in parts for stem in chosen.values()]
    missing = [stem for stem in wanted if stem not in found]
    if missing:
        warn(f"{name} changes {len(found)} layers and not {len(missing)} others, such as {missing[0]}.")
