"""Toy models for the tests: SD 1.5's structure, few channels, random weights, as a folder or one file."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from library.models.single_file import STRUCTURE, STRUCTURE_KEYS

TOKENIZER = Path(__file__).parent.parent / "library" / "models" / "files" / "sd1" / "tokenizer"
TEXT_WIDTH = 32

MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.31.0",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_toy_sd1(
    folder: Path,
    *,
    text_layers: int = 2,
    prediction_type: str = "epsilon",
    in_channels: int = 4,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Path:
    """Write a diffusers folder for pictures of 64 x 64 pixels; returns `folder`.

    All 192 UNet layers that LoRA takes are there, and 6 for each of the `text_layers`. Same arguments, same
    weights.
    """
    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, vae, encoder = toy_unet(in_channels), toy_vae(), toy_text_encoder(text_layers)
        parts = {"unet": unet, "vae": vae, "text_encoder": encoder}
        fill(parts.values())
    for name, part in parts.items():
        (part if dtype is torch.float32 else part.to(dtype)).save_pretrained(folder / name)
    _restore_text_names(folder / "text_encoder" / "model.safetensors")
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.save_pretrained(folder / "scheduler")
    shutil.copytree(TOKENIZER, folder / "tokenizer", dirs_exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2))
    return folder


def write_overflowing_sd1(folder: Path) -> Path:
    """A toy whose VAE has weights that fit into fp16 and results that do not, as SDXL's; returns `folder`."""
    file = write_toy_sd1(folder) / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    for name in ("encoder.conv_in.weight", "decoder.conv_in.weight"):
        tensors[name] *= 6e4 / tensors[name].abs().max()
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


def toy_unet(in_channels: int = 4, **changes: Any) -> UNet2DConditionModel:
    """A UNet with SD 1.5's blocks: 686 tensors, 1x1 convolutions around its 16 transformers."""
    sizes: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": in_channels,
        "block_out_channels": (16, 24, 32, 32),
        "attention_head_dim": 4,  # the number of heads, as in SD 1.5's own file
        "cross_attention_dim": TEXT_WIDTH,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**(sizes | changes))


def toy_vae(latent_channels: int = 4) -> AutoencoderKL:
    """A VAE with SD 1.5's blocks: 248 tensors, one latent pixel for 8 x 8 picture pixels."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 12, 16, 16),
        layers_per_block=2,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=64,
    )


def toy_text_encoder(layers: int = 2) -> CLIPTextModel:
    """CLIP's text model with its whole vocabulary of 49408 tokens."""
    sizes = {"hidden_size": TEXT_WIDTH, "intermediate_size": 4 * TEXT_WIDTH, "projection_dim": TEXT_WIDTH}
    tokens = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1}
    return CLIPTextModel(CLIPTextConfig(**sizes, **tokens, num_hidden_layers=layers, num_attention_heads=4))


def aligned(module: nn.Module) -> nn.Module:
    """The module with its weights where torch puts new ones; mapped from a file, the last bits of its sums differ."""
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


def fill(parts: Any) -> None:
    """Random biases and norms too: a loader that mixes two up must not go unseen among zeros and ones."""
    for part in parts:
        for parameter in part.parameters():
            if parameter.ndim == 1:
                nn.init.normal_(parameter, mean=float(parameter.detach().mean().round()), std=0.1)


def _restore_text_names(path: Path) -> None:
    """Files keep the prefix `text_model.`, which transformers 5.6 and later dropped from its module names."""
    tensors = load_file(path)
    named = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}
    save_file(named, path, metadata={"format": "pt"})


def write_single_file(folder: Path, path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write the diffusers folder of an SD1 model as one file in the original layout; returns `path`.

    A name that does not end in .safetensors makes a pickled file with the tensors in "state_dict". Either
    says in its metadata what tensors do not tell of a model of unusual size.
    """
    path, words = Path(path), structure_metadata(Path(folder)) | (metadata or {})
    tensors = original_tensors(Path(folder))
    if path.suffix == ".safetensors":
        save_file(tensors, path, metadata=words)
    else:
        torch.save({"state_dict": tensors, "global_step": 7, **words}, path)
    return path


def structure_metadata(folder: Path) -> dict[str, str]:
    """The metadata by which a single file tells numbers of heads and groups, scale and size of latents."""
    facts = {}
    for word, (part, key) in STRUCTURE_KEYS.items():
        if (folder / part).is_dir():
            facts[word] = json.loads((folder / part / "config.json").read_text())[key]
    return {STRUCTURE: json.dumps(facts)}


def original_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a diffusers folder by their names in the original layout: UNet, VAE and text encoder."""
    tensors = {}
    for name, tensor in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        tensors["model.diffusion_model." + original_unet_name(name)] = tensor
    for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        is_matrix = ".attentions." in name and tensor.ndim == 2
        # The original attention of the VAE is made of 1x1 convolutions.
        original = tensor[..., None, None] if is_matrix else tensor
        tensors["first_stage_model." + original_vae_name(name)] = original
    for name, tensor in load_file(folder / "text_encoder" / "model.safetensors").items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor
    return tensors


def _rename(name: str, words: dict[str, str]) -> str:
    """Replace each pattern by its word, in the order given."""
    for pattern, word in words.items():
        name = re.sub(pattern, word, name)
    return name


UNET_RESNET = {
    r"\.norm1\.": ".in_layers.0.",
    r"\.conv1\.": ".in_layers.2.",
    r"\.time_emb_proj\.": ".emb_layers.1.",
    r"\.norm2\.": ".out_layers.0.",
    r"\.conv2\.": ".out_layers.3.",
    r"\.conv_shortcut\.": ".skip_connection.",
}

UNET_OUTSIDE = {
    r"^time_embedding\.linear_1\.": "time_embed.0.",
    r"^time_embedding\.linear_2\.": "time_embed.2.",
    r"^conv_in\.": "input_blocks.0.0.",
    r"^conv_norm_out\.": "out.0.",
    r"^conv_out\.": "out.2.",
    r"^mid_block\.resnets\.0\.": "middle_block.0.",
    r"^mid_block\.attentions\.0\.": "middle_block.1.",
    r"^mid_block\.resnets\.1\.": "middle_block.2.",
}

VAE_NAMES = {
    r"conv_norm_out": "norm_out",
    r"conv_shortcut": "nin_shortcut",
    r"(down|up)_blocks\.(\d)\.resnets\.": r"\1.\2.block.",
    r"(down|up)_blocks\.(\d)\.(down|up)samplers\.0\.": r"\1.\2.\3sample.",
    r"mid_block\.resnets\.0\.": "mid.block_1.",
    r"mid_block\.resnets\.1\.": "mid.block_2.",
    r"mid_block\.attentions\.0\.": "mid.attn_1.",
    r"attn_1\.group_norm\.": "attn_1.norm.",
    r"attn_1\.to_([qkv])\.": r"attn_1.\1.",
    r"attn_1\.to_out\.0\.": "attn_1.proj_out.",
}


def original_unet_name(name: str) -> str:
    """A UNet tensor's name in the original layout, where blocks are numbered through, not by resolution."""
    name = _rename(name, UNET_OUTSIDE)
    if ".resnets." in name or name.startswith("middle_block.0") or name.startswith("middle_block.2"):
        name = _rename(name, UNET_RESNET)
    kinds = "resnets|attentions|downsamplers|upsamplers"
    found = re.match(rf"(down|up)_blocks\.(\d)\.({kinds})\.(\d)\.(.*)", name)
    if not found:
        return name
    way, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if kind == "downsamplers":
        return f"input_blocks.{3 * block + 3}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        # It stands behind the attention, which the first block of the way up has not.
        return f"output_blocks.{3 * block + 2}.{1 if block == 0 else 2}.{rest}"
    place = 0 if kind == "resnets" else 1
    if way == "down":
        return f"input_blocks.{3 * block + layer + 1}.{place}.{rest}"
    return f"output_blocks.{3 * block + layer}.{place}.{rest}"


def original_vae_name(name: str) -> str:
    """A VAE tensor's name in the original layout, where the decoder's blocks are numbered from the finest."""
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up_blocks.{3 - int(found[1])}", name)
    return _rename(name, VAE_NAMES)
