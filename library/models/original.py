"""Names of tensors in the original layout of Stable Diffusion's checkpoints, and the way there from diffusers'."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from library.names import unet_names

UNET = "model.diffusion_model."
VAE = "first_stage_model."

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
        elif name == "text_projection.weight":  # some files have it as transformers has it
            named[name] = tensor
        elif found := re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.*?)[._](weight|bias)", name):
            number, part, kind = found.groups()
            place = f"encoder.layers.{number}"
            if part == "attn.in_proj":
                for word, third in zip(_PROJECTIONS, tensor.chunk(3), strict=True):
                    named[f"{place}.self_attn.{word}_proj.{kind}"] = third.contiguous()
            elif part in layer:
                named[f"{place}.{layer[part]}.{kind}"] = tensor
    return named
