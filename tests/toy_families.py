"""Toy models of all families of Stable Diffusion: their structure, few channels, random weights."""

from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from library.models.checkpoints import CLASSES, Parts, part_tensors, structure_metadata, write_file, write_folder
from library.models.layout import usual_config
from tests.toys import fill, toy_text_encoder, toy_unet, toy_vae

WIDTHS = {"text_encoder": 24, "text_encoder_2": 40}
ACTIVATIONS = {"text_encoder": "quick_gelu", "text_encoder_2": "gelu"}
SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


def write_toy(folder: Path, family: str, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Writes a diffusers folder of "sd1", "sd2" or "sdxl" for pictures of 64 x 64 pixels; returns `folder`."""
    parts, configs = toy_parts(family, prediction_type, seed)
    write_folder(Path(folder), family, parts, configs, torch.float32)
    return Path(folder)


def write_toy_file(path: Path, family: str, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Writes the same model as one file in the original layout; returns `path`."""
    parts, configs = toy_parts(family, prediction_type, seed)
    words = structure_metadata(configs, family) | {"modelspec.prediction_type": prediction_type}
    write_file(Path(path), family, parts, torch.float32, words)
    return Path(path)


def toy_parts(family: str, prediction_type: str = "epsilon", seed: int = 0) -> tuple[Parts, dict[str, dict[str, Any]]]:
    """The tensors and the configurations of all parts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = toy_modules(family)
        fill(modules.values())
    configs = {part: config_of(module) for part, module in modules.items()}
    configs["scheduler"] = SCHEDULER | {"prediction_type": prediction_type}
    return {part: part_tensors(module) for part, module in modules.items()}, configs


def toy_modules(family: str) -> dict[str, nn.Module]:
    """The parts themselves."""
    if family == "sd1":
        return {"unet": toy_unet(), "vae": toy_vae(), "text_encoder": toy_text_encoder()}
    if family == "sd2":
        unet = toy_unet(use_linear_projection=True, cross_attention_dim=24)
        return {"unet": unet, "vae": toy_vae(), "text_encoder": toy_encoder("text_encoder", "gelu")}
    encoders = {part: toy_encoder(part, ACTIVATIONS[part]) for part in WIDTHS}
    return {"unet": toy_xl_unet(), "vae": toy_vae(), **encoders}


def toy_xl_unet() -> UNet2DConditionModel:
    """A UNet with the 1680 tensors of XL's."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 24, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=4,
        cross_attention_dim=sum(WIDTHS.values()),
        norm_num_groups=8,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 40,
    )


def toy_encoder(part: str, activation: str, layers: int = 3, vocabulary: int = 49408) -> nn.Module:
    """A text encoder with CLIP's whole vocabulary; XL's second has a projection."""
    width = WIDTHS[part]
    config = CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        vocab_size=vocabulary,
        bos_token_id=49406,
        eos_token_id=49407,
        num_hidden_layers=layers,
        num_attention_heads=4,
        hidden_act=activation,
    )
    return (CLIPTextModelWithProjection if part == "text_encoder_2" else CLIPTextModel)(config)


def config_of(module: Any) -> dict[str, Any]:
    """A part's configuration as its file has it."""
    if hasattr(module.config, "to_dict"):
        return module.config.to_dict()
    return {**module.config, "_class_name": type(module).__name__}


def real_modules(family: str) -> dict[str, nn.Module]:
    """All parts of a family in full size, without weights."""
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    modules: dict[str, nn.Module] = {"unet": real_unet(family)}
    with init_empty_weights():
        modules["vae"] = AutoencoderKL.from_config(usual_config(family, "vae"))
        for part in CLASSES[family][1]:
            modules[part] = kinds[part](CLIPTextConfig.from_dict(usual_config(family, part)))
    return modules


def real_unet(family: str) -> UNet2DConditionModel:
    """The family's UNet in full size, without weights."""
    with init_empty_weights():
        return UNet2DConditionModel.from_config(usual_config(family, "unet"))
