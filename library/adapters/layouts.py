"""The layouts of a LoRA file, told apart and turned into each other without a loss."""

import json
import math
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from library.adapters.keys import (
    PEFT_CONFIG,
    XL_MARK,
    LoraWeights,
    dotted_of,
    parse_adapter,
    stem_of,
    to_diffusers,
    to_kohya,
)
from library.adapters.made import HASHES, common_format
from library.adapters.made import PRECISIONS as FORMATS
from library.names import unet_names

LAYOUTS = ("kohya", "diffusers", "original")
# What a converted file says of how it was: number format, each layer's alpha, and PEFT's configuration.
ORIGIN = "easel_converted_from"
# Of the older families, these blocks on the UNet's way up have attention.
ATTENDING = tuple(f"up_blocks.{number}.attentions." for number in (1, 2, 3))


class Origin(NamedTuple):
    """How a file was before it was converted: its number format, and PEFT's configuration if it had one."""

    dtype: torch.dtype
    config: str | None


def is_xl(stems: Collection[str]) -> bool:
    """Whether these layers are of Stable Diffusion XL: a second text encoder, or attention where only XL has it."""
    return any(XL_MARK.match(dotted_of(stem)) for stem in stems)


def usual_stem(stem: str, xl: bool) -> str:
    """kohya's own stem of a layer whose stem is by other rules, such as the original names of an SD 1 model."""
    return stem_of(dotted_of(stem), xl)


def original_stem(stem: str, xl: bool) -> str:
    """The stem with the UNet's layers by their names in the original layout; those of XL have them anyway."""
    part, _, path = dotted_of(stem).partition(".")
    if part != "unet" or xl:
        return usual_stem(stem, xl)
    return f"lora_unet_{unet_names([path, *ATTENDING])[path].replace('.', '_')}"


def convert(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], layout: str, name: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a LoRA file in another layout, one of `LAYOUTS`.

    Where a scale has to be multiplied into a matrix, powers of two are exact, and half precision becomes float32 for
    anything else; what the file was like is noted in the metadata, so that the way back gives the same numbers.
    """
    told = {key: value for key, value in metadata.items() if key not in HASHES}
    layers, origin = parse_adapter(tensors, metadata, name), Origin(common_format(tensors), told.pop(PEFT_CONFIG, None))
    xl = is_xl(layers)
    layers = {usual_stem(stem, xl): layer for stem, layer in layers.items()}
    if ORIGIN in told:
        note = json.loads(told.pop(ORIGIN))
        origin = Origin(FORMATS[note["precision"]], note.get("peft", origin.config))
        layers = {stem: _as_it_was(stem, layer, note["alphas"], origin.dtype) for stem, layer in layers.items()}
    if layout == "diffusers":
        return _for_diffusers(layers, told, origin)
    alpha = common_alpha(layers)
    exact = {stem: _with_alpha(layer, alpha) for stem, layer in layers.items()}
    if layout == "original":
        exact = {original_stem(stem, xl): layer for stem, layer in exact.items()}
    state = {key: _alpha_format(key, each, origin.dtype) for key, each in to_kohya(exact, alpha).items()}
    is_changed = origin.config is not None or any(layer.alpha != alpha for layer in layers.values())
    return state, told | ({ORIGIN: _note(layers, origin)} if is_changed else {})


def _for_diffusers(
    layers: Mapping[str, LoraWeights], told: Mapping[str, str], origin: Origin
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors for diffusers: as PEFT's own configuration scales them if there is one, else scaled already."""
    if origin.config is not None:
        unscaled = {stem: layer._replace(alpha=float(layer.rank)) for stem, layer in layers.items()}
        return to_diffusers(unscaled), {**told, PEFT_CONFIG: origin.config}
    exact = {stem: _with_alpha(layer, float(layer.rank)) for stem, layer in layers.items()}
    return to_diffusers(exact), {**told, ORIGIN: _note(layers, origin)}


def common_alpha(layers: Mapping[str, LoraWeights]) -> float:
    """The alpha that a file in kohya's layout has for all layers: the most common one."""
    alphas = [layer.alpha for layer in layers.values()]
    return max(alphas, key=alphas.count)


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """The tensor times a factor: in its own format if that loses nothing, else in float32."""
    if factor == 1:
        return tensor
    product = tensor * factor
    if math.frexp(factor)[0] in (0.5, -0.5) and torch.equal(product / factor, tensor):
        return product
    return tensor.float() * factor


def _as_it_was(stem: str, layer: LoraWeights, alphas: Mapping[str, float], dtype: torch.dtype) -> LoraWeights:
    """The layer with its alpha and number format of before."""
    alpha = alphas.get(stem, layer.alpha)
    up = layer.up if layer.alpha == alpha else layer.up.double() * (layer.alpha / alpha)
    return LoraWeights(layer.down.to(dtype), up.to(dtype), alpha)


def _note(layers: Mapping[str, LoraWeights], origin: Origin) -> str:
    """What a file says of how it was."""
    alphas = {stem: layer.alpha for stem, layer in layers.items()}
    precision = next(word for word, dtype in FORMATS.items() if dtype == origin.dtype)
    words: dict[str, object] = {"precision": precision, "alphas": alphas}
    return json.dumps(words if origin.config is None else words | {"peft": origin.config})


def _with_alpha(layer: LoraWeights, alpha: float) -> LoraWeights:
    return LoraWeights(layer.down, scaled(layer.up, layer.alpha / alpha), alpha)


def _alpha_format(key: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """An alpha in the file's number format, where that holds it."""
    if not key.endswith(".alpha") or float(tensor.to(dtype)) != float(tensor):
        return tensor
    return tensor.to(dtype)
