"""Names of tensors in the original layout of Stable Diffusion's checkpoints, and the way there from diffusers'."""

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

UNET = "model.diffusion_model."
VAE = "first_stage_model."

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
_VAE_NAMES = {
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"(down|up)_blocks\.(\d)\.resnets\.": r"\1.\2.block.",
    r"(down|up)_blocks\.(\d)\.(down|up)samplers\.0\.": r"\1.\2.\3sample.",
    r"mid_block\.resnets\.0\.": "mid.block_1.",
    r"mid_block\.resnets\.1\.": "mid.block_2.",
    r"mid_block\.attentions\.0\.group_norm\.": "mid.attn_1.norm.",
    r"mid_block\.attentions\.0\.to_([qkv])\.": r"mid.attn_1.\1.",
    r"mid_block\.attentions\.0\.to_out\.0\.": "mid.attn_1.proj_out.",
}
# OpenCLIP's words for the parts of a layer of CLIP's text model.
_OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_OPEN_CLIP_OUTSIDE = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}
_PROJECTIONS = ("q", "k", "v")


def unet_names(names: Iterable[str]) -> dict[str, str]:
    """diffusers' names of a UNet's modules or tensors, each with its name in the original layout.

    `names` has to hold enough to tell which blocks of the way up have attention; those of all modules do. The
    original numbers the blocks through, without regard to resolution.
    """
    names = list(names)
    attending = {name.split(".")[1] for name in names if re.match(r"up_blocks\.\d\.attentions\.", name)}
    return {name: _unet_name(name, attending) for name in names}


def unet_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's tensors by their names in a checkpoint."""
    names = unet_names(tensors)
    return {UNET + names[name]: tensor for name, tensor in tensors.items()}


def vae_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's tensors by their names in a checkpoint; its attention is made of 1x1 convolutions there."""
    named = {}
    for name, tensor in tensors.items():
        is_matrix = ".attentions." in name and tensor.ndim == 2
        # The original numbers the decoder's four blocks from the finest.
        turned = re.sub(r"up_blocks\.(\d)", lambda found: f"up_blocks.{3 - int(found[1])}", name)
        for pattern, word in _VAE_NAMES.items():
            turned = re.sub(pattern, word, turned)
        named[VAE + turned] = tensor[..., None, None] if is_matrix else tensor
    return named


def to_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP text model's tensors (named without `text_model.`) as OpenCLIP has them, query, key and value in one."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _OPEN_CLIP_OUTSIDE:
            named[_OPEN_CLIP_OUTSIDE[name]] = tensor
        elif name == "text_projection.weight":
            named["text_projection"] = tensor.t().contiguous()
        elif found := re.fullmatch(r"encoder\.layers\.(\d+)\.(.*)\.(weight|bias)", name):
            number, part, kind = found.groups()
            place = f"transformer.resblocks.{number}"
            if part == "self_attn.q_proj":
                three = [tensors[f"encoder.layers.{number}.self_attn.{word}_proj.{kind}"] for word in _PROJECTIONS]
                named[f"{place}.attn.in_proj_{kind}"] = torch.cat(three)
            elif part in _OPEN_CLIP_LAYER:
                named[f"{place}.{_OPEN_CLIP_LAYER[part]}.{kind}"] = tensor
    return named


def from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `to_open_clip`; what transformers' model has no place for (logit_scale) is left out."""
    outside = {word: name for name, word in _OPEN_CLIP_OUTSIDE.items()}
    layer = {word: name for name, word in _OPEN_CLIP_LAYER.items()}
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in outside:
            named[outside[name]] = tensor
        elif name == "text_projection":
            named["text_projection.weight"] = tensor.t().contiguous()
        elif found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.*?)[._](weight|bias)", name):
            number, part, kind = found.groups()
            place = f"encoder.layers.{number}"
            if part == "attn.in_proj":
                for word, third in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                    named[f"{place}.self_attn.{word}_proj.{kind}"] = third.contiguous()
            elif part in layer:
                named[f"{place}.{layer[part]}.{kind}"] = tensor
    return named


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
