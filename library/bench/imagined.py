"""Base models that exist in memory only: true shapes, random weights. Speed does not depend on what weights say."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from library.lookup import FAMILIES, resolve
from library.models.family import Family
from library.models.layout import Source, usual_config

# The same structure as Stable Diffusion 1.5's UNet with a fifth of its width. Two heads instead of eight keep theirs
# near the true one (32, 64, 128 numbers a head for 40, 80, 160), and with it the share of attention in a step.
SMALL = {"block_out_channels": (64, 128, 256, 256), "attention_head_dim": 2, "sample_size": 32}
SMALL_VAE = {"block_out_channels": (32, 64, 96, 96)}
IMAGINED = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
NORMS = ("norm", "ln")


def imagine(name: str, small: bool = False) -> Family:
    """The family "sd1", "sd2" or "sdxl" with a UNet and a VAE of random weights; text encoders cannot be loaded."""
    parts = ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler")
    configs = {part: dict(usual_config(name, part)) for part in parts if name == "sdxl" or part != "text_encoder_2"}
    if small:
        configs["unet"] |= SMALL
        configs["vae"] |= SMALL_VAE
    nowhere = Path(f"random-{name}")

    def read(part: str) -> dict[str, Tensor]:
        if part not in IMAGINED:
            raise LookupError(f"only the UNet and the VAE are imagined, and no {part}")
        return random_weights(IMAGINED[part], configs[part])

    family: Family = resolve(FAMILIES[name])(
        Source(nowhere.name, nowhere, configs, {part: (nowhere,) for part in configs}, read)
    )
    return family


def random_weights(model: Any, config: Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a model of diffusers, float32: norms that do nothing, all else as wide as 1 / sqrt(inputs)."""
    with init_empty_weights():
        empty = model.from_config(dict(config))
    shapes = {key: tensor.shape for key, tensor in empty.state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in shapes.items():
        if any(word in key for word in NORMS):
            tensors[key] = torch.full(shape, float(key.endswith("weight")))
        elif key.endswith("bias"):
            tensors[key] = torch.zeros(shape)
        else:
            width = math.prod(shape[1:])
            tensors[key] = torch.randn(shape, generator=generator).mul_(width**-0.5)
    return tensors
