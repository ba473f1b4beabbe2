"""Names of a UNet's modules and tensors: diffusers' own, and those of the original layout of Stable Diffusion."""

import re
from collections.abc import Iterable

_UNET_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_LAYER = re.compile(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)")
_NUMBERED = re.compile(r"(input|output)_blocks\.(\d+)\.(\d)\.(.*)")


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """diffusers' names of a UNet's modules or tensors, each with its name in the original layout.

    `names` has to hold enough to tell which blocks of the way up have attention; those of all modules do. The
    original numbers the blocks through, without regard to resolution.
    """
    names = list(names)
    attending = {name.split(".")[1] for name in names if re.match(r"up_blocks\.\d\.attentions\.", name)}
    return {name: _unet_name(name, attending) for name in names}


def from_original(name: str) -> str:
    """The reverse of `unet_names` for one name."""
    for start, word in _UNET_OUTSIDE.items():
        if name == word or name.startswith(f"{word}."):
            rest = name[len(word) :]
            return start + (_inside(rest) if ".resnets." in start else rest)
    found = _NUMBERED.fullmatch(name)
    if not found:
        return name
    way, number, place, rest = found[1], int(found[2]), found[3], found[4]
    if way == "input":
        block, layer = divmod(number - 1, 3)
        if layer == 2:
            return f"down_blocks.{block}.downsamplers.0.{rest.replace('op', 'conv', 1)}"
        side = f"down_blocks.{block}"
    else:
        block, layer = divmod(number, 3)
        side = f"up_blocks.{block}"
        if place == "2" or (place == "1" and rest.startswith("conv")):
            return f"{side}.upsamplers.0.{rest}"
    return f"{side}.attentions.{layer}.{rest}" if place == "1" else f"{side}.resnets.{layer}{_inside(f'.{rest}')}"


def _unet_name(name: str, attending: set[str]) -> str:
    """One name; `attending` are the numbers of the blocks on the way up that have attention."""
    for start, word in _UNET_OUTSIDE.items():
        if name == start or name.startswith(f"{start}."):
            rest = name[len(start) :]
            return word + (_resnet(rest) if ".resnets." in start else rest)
    found = _UNET_LAYER.fullmatch(name)
    if not found:
        return name
    way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op{rest.removeprefix('conv')}"
    if kind == "upsamplers":
        return f"output_blocks.{3 * block + 2}.{2 if str(block) in attending else 1}.{rest}"
    place = f"input_blocks.{3 * block + layer + 1}" if way == "down" else f"output_blocks.{3 * block + layer}"
    return f"{place}.1.{rest}" if kind == "attentions" else f"{place}.0{_resnet(f'.{rest}')}"


def _resnet(rest: str) -> str:
    """The end of a name inside a residual block, with its dot: ".conv1.weight" is ".in_layers.2.weight"."""
    first, dot, tail = rest.removeprefix(".").partition(".")
    return f".{_UNET_RESNET.get(first, first)}{dot}{tail}" if rest else ""


def _inside(rest: str) -> str:
    """The reverse of `_resnet`."""
    for first, word in _UNET_RESNET.items():
        if rest == f".{word}" or rest.startswith(f".{word}."):
            return f".{first}{rest[len(word) + 1 :]}"
    return rest
