"""Several LoRAs as one: the matrices beside each other, which is exact, or the nearest of a given rank."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from library.adapters.blocks import weigher
from library.adapters.changes import Change, plain_layers, read_changes
from library.adapters.keys import LoraWeights
from library.adapters.layouts import is_xl, usual_stem
from library.errors import InputError

APPROXIMATING = "Give --dim, the rank of the LoRA that comes nearest to all, and --base, the model that they are for."


@dataclass(frozen=True)
class Share:
    """A LoRA file, what its change is multiplied with, and the weights of blocks on top of that."""

    path: Path
    ratio: float = 1.0
    blocks: Mapping[str, float] = field(default_factory=dict)

    @property
    def weight_of(self) -> Callable[[str], float]:
        """What a layer's change is multiplied with, by its stem."""
        inside = weigher(self.blocks)
        return lambda stem: self.ratio * inside(stem)

    def read(self) -> dict[str, LoraWeights]:
        """The file's layers by kohya's own stems, whatever its layout."""
        layers = plain_layers(read_changes(self.path), str(self.path), "merged exactly", APPROXIMATING)
        xl = is_xl(layers)
        return {usual_stem(stem, xl): layer for stem, layer in layers.items()}

    def is_plain(self) -> bool:
        """Whether it holds plain LoRA alone."""
        return all(change.plain() is not None for change in read_changes(self.path).values())

    def changes(self) -> dict[str, Change]:
        """The same of an adapter of any kind."""
        layers = read_changes(self.path)
        xl = is_xl(layers)
        return {usual_stem(stem, xl): change for stem, change in layers.items()}


def combine(shares: Sequence[Share]) -> dict[str, LoraWeights]:
    """All layers of the files, float32; a layer's rank is the sum of its ranks, and its alpha is that too.

    Layers of weight 0 are left out. Raises InputError for files that are made for weights of different shapes.
    """
    found: dict[str, list[tuple[float, LoraWeights, Path]]] = {}
    for share in shares:
        weight_of = share.weight_of
        for stem, layer in share.read().items():
            if weight := weight_of(stem):
                found.setdefault(stem, []).append((weight, layer, share.path))
    if not found:
        raise InputError("nothing is left of these LoRAs: every layer has the weight 0.")
    for stem, given in found.items():
        _check_shapes(stem, [(layer, path) for _, layer, path in given])
    return {stem: _beside(given) for stem, given in found.items()}


def described(shares: Sequence[Share]) -> str:
    """The files in words, such as "mine.safetensors x 0.8 (in=0.5)"."""
    words = []
    for share in shares:
        blocks = ",".join(f"{block}={weight:g}" for block, weight in share.blocks.items())
        words.append(f"{share.path.name} x {share.ratio:g}{f' ({blocks})' if blocks else ''}")
    return " + ".join(words)


def _beside(given: Sequence[tuple[float, LoraWeights, Path]]) -> LoraWeights:
    """The layers as one. Half of each factor, by its root, goes to either matrix, as half precision wants it."""
    ups, downs = [], []
    for weight, layer, _ in given:
        factor = weight * layer.scale
        root = abs(factor) ** 0.5
        ups.append(layer.up.float() * (root if factor > 0 else -root))
        downs.append(layer.down.float() * root)
    ones = max(layer.down.ndim for _, layer, _ in given) - 2
    downs = [_with_ones(each, ones) for each in downs]
    down, up = torch.cat(downs), torch.cat([_with_ones(each, ones) for each in ups], dim=1)
    return LoraWeights(down, up, float(down.shape[0]))


def _with_ones(tensor: torch.Tensor, ones: int) -> torch.Tensor:
    """A matrix with the ones of a convolution, if the others have them."""
    return tensor if tensor.ndim == 2 + ones else tensor.reshape(*tensor.shape, *(1,) * ones)


def _check_shapes(stem: str, given: Sequence[tuple[LoraWeights, Path]]) -> None:
    shapes = [(layer.up.shape[0], *layer.down.shape[1:]) for layer, _ in given]
    plain = [tuple(size for size in shape if size != 1) for shape in shapes]
    for number, shape in enumerate(plain):
        if shape != plain[0]:
            raise InputError(
                f"{given[0][1]} and {given[number][1]} are not for one base model: {stem} is made for a weight of "
                f"shape {shapes[0]} in the first and of {shapes[number]} in the other."
            )
