"""Which layers of a model are adapted, at which rank and alpha, and how fast each block learns."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from library.adapters.blocks import REST, block_of
from library.adapters.full import is_norm
from library.adapters.kinds import Size
from library.errors import InputError
from library.lookup import PRESETS

# Everything inside one of these belongs together; its norms learn with its layers.
HOUSE = re.compile(r"(.*\.(?:attentions|resnets)\.\d+)\.")
XL_MIDDLE = re.compile(r"lora_unet_middle_block_(\d)_")
Number = TypeVar("Number", int, float)
COURSES = ("cosine", "sine", "linear", "reverse_linear", "zeros")


@dataclass(frozen=True)
class Sizes:
    """Ranks and alphas as sd-scripts has them: of all layers, of convolutions beyond 1x1, of each block of the UNet.

    Lists have 25 numbers for the older families and 23 for XL: what is outside the blocks, those of the way in, the
    middle (one, of XL three), those of the way out (and of XL one that no layer has). 0 leaves a layer out.
    `rank_stabilised` scales by alpha / sqrt(rank) (Kalajdzievski 2023, arXiv 2312.03732).
    """

    dim: int
    alpha: float
    conv_dim: int | None = None
    conv_alpha: float | None = None
    block_dims: tuple[int, ...] = ()
    block_alphas: tuple[float, ...] = ()
    conv_block_dims: tuple[int, ...] = ()
    conv_block_alphas: tuple[float, ...] = ()
    rank_stabilised: bool = False

    def of(self, stem: str, is_convolution: bool, xl: bool) -> Size | None:
        """A layer's rank and alpha; None where it is left out. An alpha of 0 is the rank."""
        dim, alpha = self.dim, self.alpha
        dims, alphas = self.block_dims, self.block_alphas
        if is_convolution:
            dim = self.dim if self.conv_dim is None else self.conv_dim
            alpha = self.alpha if self.conv_alpha is None else self.conv_alpha
            dims, alphas = self.conv_block_dims or dims, self.conv_block_alphas or alphas
        place = block_number(stem, xl)
        if place is not None:
            dim = _listed(dims, place, xl, "block_dims") if dims else dim
            alpha = _listed(alphas, place, xl, "block_alphas") if alphas else alpha
        if dim == 0:
            return None
        alpha = float(alpha or dim)
        return Size(dim, alpha * math.sqrt(dim) if self.rank_stabilised else alpha)


def choose_layers(
    module: nn.Module,
    layers: Mapping[str, str],
    dotted: Mapping[str, str],
    part: str,
    preset: str | None = None,
    patterns: Sequence[str] = (),
    norms: bool = False,
) -> dict[str, str]:
    """Those of a part's layers that learn: module path -> stem, in the part's order.

    Args:
        layers: every layer that can carry an adapter, norms too: module path -> stem
        dotted: module path -> the name that `patterns`, regular expressions, are looked for in
        preset: a name of `lookup.PRESETS`
        norms: whether the UNet's norms learn that are in one block with a chosen layer
    """
    if patterns:
        wanted = [re.compile(pattern) for pattern in patterns]
        chosen = {path for path, name in dotted.items() if any(each.search(name) for each in wanted)}
    else:
        pattern = PRESETS[preset or "attn-mlp"][0 if part == "unet" else 1]
        chosen = {path for path in layers if pattern is not None and re.search(pattern, f".{path}")}
    chosen = {path for path in chosen if path in layers and not is_norm(module.get_submodule(path))}
    if norms and part == "unet":
        houses = {found[1] for path in chosen if (found := HOUSE.match(path))}
        for path in layers:
            found = HOUSE.match(path)
            if found and found[1] in houses and is_norm(module.get_submodule(path)):
                chosen.add(path)
    return {path: stem for path, stem in layers.items() if path in chosen}


def layer_sizes(
    modules: Mapping[str, nn.Module], layers: Mapping[str, Mapping[str, str]], sizes: Sizes
) -> dict[str, Size]:
    """Stem -> rank and alpha, without the layers that are left out."""
    xl = any(is_xl(stem) for chosen in layers.values() for stem in chosen.values())
    found = {
        stem: sizes.of(stem, is_convolution(modules[part].get_submodule(path)), xl)
        for part, chosen in layers.items()
        for path, stem in chosen.items()
    }
    return {stem: size for stem, size in found.items() if size is not None}


def is_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of more than one pixel."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)


def is_xl(stem: str) -> bool:
    """Whether a layer of a UNet goes by the names that files of XL have."""
    return stem.startswith(("lora_unet_input_", "lora_unet_middle_", "lora_unet_output_"))


def block_number(stem: str, xl: bool) -> int | None:
    """A layer's place in lists of blocks; None in text encoders, and of XL in the middle its own of three."""
    block = block_of(stem)
    if block.startswith("te"):
        return None
    if block == REST:
        return 0
    if block == "mid":
        found = XL_MIDDLE.match(stem)
        return 10 + int(found[1]) if found and xl else 12
    way, number = re.fullmatch(r"([a-z]+)(\d+)", block).groups()  # type: ignore[union-attr]  # of all others
    if xl:
        return 1 + int(number) if way == "in" else 13 + int(number)
    return int(number) if way == "in" else 13 + int(number)


@dataclass(frozen=True)
class BlockRates:
    """What the learning rate of each block of the UNet is multiplied with; up to `threshold` a block does not learn.

    Each is numbers with commas (12 in, 1 in the middle and 12 out, of XL 9, 3 and 9), or the name of a course with what
    is added to it, such as cosine+0.2.
    """

    down: str = ""
    middle: str = ""
    up: str = ""
    threshold: float = 0.0

    def of(self, stem: str, xl: bool) -> float:
        """A layer's factor: 1 in text encoders and outside the blocks, 0 where it does not learn."""
        place = block_number(stem, xl)
        if place is None or xl and place == 0:
            return 1.0
        side, middle = (9, 3) if xl else (12, 1)
        place -= 1 if xl else 0
        for text, count, name in (
            (self.down, side, "down_lr_weight"),
            (self.middle, middle, "mid_lr_weight"),
            (self.up, side, "up_lr_weight"),
        ):
            if place < count:
                factor = block_rates(text, count, name)[place]
                return 0.0 if factor <= self.threshold else factor
            place -= count
        return 1.0


def block_rates(text: str, count: int, name: str) -> list[float]:
    """So many factors from numbers or a course's name; 1 for each where nothing is said."""
    text = text.strip().strip("[]")
    if not text:
        return [1.0] * count
    word, _, base = text.partition("+")
    try:
        if word in COURSES:
            return [value + float(base or 0) for value in _course(word, count)]
        values = [float(each) for each in text.split(",")]
    except ValueError:
        raise InputError(
            f"network_args: {name} must be {count} numbers with commas or {', '.join(COURSES)}, not '{text}'."
        ) from None
    if len(values) < count:
        raise InputError(f"network_args: {name} has {len(values)} numbers, and this model has {count} such blocks.")
    return values[:count]


def _course(word: str, count: int) -> list[float]:
    parts = [each / max(count - 1, 1) for each in range(count)]
    if word == "zeros":
        return [0.0] * count
    values = [math.sin(math.pi / 2 * each) for each in parts] if word in ("cosine", "sine") else parts
    return values[::-1] if word in ("cosine", "reverse_linear") else values


def _listed(values: Sequence[Number], place: int, xl: bool, name: str) -> Number:
    count = 23 if xl else 25
    if len(values) != count:
        raise InputError(f"network_args: {name} has {len(values)} numbers, and this model needs {count}.")
    return values[place]
