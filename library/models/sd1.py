"""Stable Diffusion 1.x: one CLIP text encoder, a UNet for pictures of 512 x 512 pixels."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from library.errors import InputError
from library.models import text
from library.models.family import Condition, Tokens
from library.models.layout import FILES, Source, build, remembered
from library.weights import file_sha256, legacy_hash

PIXELS = 8  # of a picture for one of the latents, each way
TOKENIZER_FILES = ("vocab.json", "tokenizer.json")


class SD1:
    """Stable Diffusion 1.x, and models of its structure in any size."""

    name = "sd1"
    base_model_version = "sd_v1"
    architecture = "stable-diffusion-v1"
    betas = (0.00085, 0.012, 1000)

    def __init__(self, source: Source, vae: Source | None = None) -> None:
        self._source, self._vae = source, vae or source
        remedy = "" if vae else " Name a VAE's file, folder or hub id with the setting vae."
        source.require("unet")
        source.require("text_encoder")
        self._vae.require("vae", remedy)
        scheduler = source.configs.get("scheduler", {})
        self.prediction_type: str = scheduler.get("prediction_type", "epsilon")
        own = source.configs.get("vae") or self._vae.configs["vae"]  # the UNet learned on its own VAE's scale
        self.latent_scale = float(own.get("scaling_factor", 0.18215))
        self.default_size = PIXELS * int(source.configs["unet"].get("sample_size", 64))
        self.base_name = source.label
        channels = self._vae.configs["vae"].get("latent_channels", 4)
        if channels != 4:
            raise InputError(f"The VAE in {self._vae.name} makes {channels} latent channels; 4 are needed.")

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether UNet and text encoder fit together as in 1.x: 1x1 convolutions around the transformers."""
        unet, encoder = source.configs.get("unet", {}), source.configs.get("text_encoder", {})
        return (
            unet.get("in_channels") == 4
            and not unet.get("use_linear_projection")
            and not unet.get("addition_embed_type")
            and "text_encoder_2" not in source.configs
            and unet.get("cross_attention_dim") == encoder.get("hidden_size")
        )

    def load_vae(self, dtype: torch.dtype) -> nn.Module:
        """The VAE on the CPU, frozen, in `dtype`; in float16 some overflow."""
        return self._build(self._vae, "vae", AutoencoderKL, dtype)

    def load_text_encoders(self, dtype: torch.dtype) -> list[nn.Module]:
        """The one text encoder, on the CPU, frozen, in `dtype`."""
        source = self._source
        what = f"The text encoder of {source.name}"
        return [
            text.load_text_encoder(source.configs["text_encoder"], source.read("text_encoder"), dtype, what)
        ]

    def load_unet(self, dtype: torch.dtype) -> nn.Module:
        """The UNet on the CPU, frozen, in `dtype`."""
        return self._build(self._source, "unet", UNet2DConditionModel, dtype)

    def tokenize(self, captions: Sequence[str], max_token_length: int, weighted: bool = False) -> list[Tokens]:
        """The tokens for the one text encoder; captions beyond the length are cut."""
        if weighted:
            return [Tokens(*self._tokenizer.weighted(captions, max_token_length))]
        return [Tokens(self._tokenizer(captions, max_token_length))]

    def token_count(self, caption: str, weighted: bool = False) -> int:
        """How many tokens a caption has; `tokenize` cuts those beyond `max_token_length`."""
        return self._tokenizer.count(caption, weighted)

    def encode_text(
        self, encoders: Sequence[nn.Module], tokens: Sequence[Tokens], clip_skip: int | None = None
    ) -> Condition:
        """Hidden states (batch, 75 * chunks + 2, width) of the `clip_skip`-th last layer, normed and weighed."""
        return Condition(text.encode(encoders[0], tokens[0].ids, clip_skip, tokens[0].weights))

    def predict(self, unet: nn.Module, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """The UNet's answer, shaped as `noisy`: (batch, 4, height / 8, width / 8)."""
        answer: Tensor = unet(noisy, timesteps, encoder_hidden_states=condition.hidden).sample
        return answer

    def adapter_layers(self, module: nn.Module, part: str) -> dict[str, str]:
        """sd-scripts' default choice: all linear layers and 1x1 convolutions of the UNet's transformers, all
        linear layers of the text encoder's attention and MLP.
        """
        if part == "text_encoder":
            return text.adapter_layers(module, "lora_te")
        layers = {}
        for path, block in module.named_modules():
            if isinstance(block, Transformer2DModel):
                for name, layer in block.named_modules():
                    if isinstance(layer, nn.Linear) or _is_pointwise(layer):
                        full = f"{path}.{name}"
                        layers[full] = f"lora_unet_{full}".replace(".", "_")
        return layers

    def diffusers_name(self, part: str, path: str) -> str:
        """The layer's name in files of the diffusers/PEFT layout."""
        return f"{part}.{text.file_path(path) if part == 'text_encoder' else path}"

    def encode_images(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, unscaled, float32: (batch, 4, h, w) of (batch, 3, 8h, 8w)."""
        with torch.autocast(pixels.device.type, enabled=False):
            latents: Any = vae.encode(pixels.to(next(vae.parameters()).dtype)).latent_dist
        return latents.mean.float(), latents.logvar.float()

    def decode_latents(self, vae: nn.Module, latents: Tensor) -> Tensor:
        """Pixels (batch, 3, 8h, 8w) in [-1, 1], float32, of scaled latents (batch, 4, h, w)."""
        with torch.autocast(latents.device.type, enabled=False):
            unscaled = (latents.float() / self.latent_scale).to(next(vae.parameters()).dtype)
            pixels: Tensor = vae.decode(unscaled).sample
        return pixels.float().clamp(-1, 1)

    def fingerprint(self, part: str, cache_dir: Path | None = None) -> str:
        """A hash of a part's weights, the same in whatever file they are; or of the tokenizer."""
        if part == "tokenizer":
            return self._tokenizer.fingerprint
        return (self._vae if part == "vae" else self._source).fingerprint(part, cache_dir)

    def base_hashes(self, cache_dir: Path | None = None) -> dict[str, str]:
        """kohya's hashes of the model's file, or of the UNet's file in a folder.

        With a VAE in the place of the model's, its name and hashes too.
        """
        hashes = _hashes(self._source.files["unet"][0], "sd_model", cache_dir)
        if self._vae is not self._source:
            hashes |= {"ss_vae_name": self._vae.label}
            hashes |= _hashes(self._vae.files["vae"][0], "vae", cache_dir)
        return hashes

    @cached_property
    def _tokenizer(self) -> text.Tokenizer:
        """The model's own tokenizer, or the one that all of this family share."""
        own = self._source.path / "tokenizer"
        is_there = any((own / name).is_file() for name in TOKENIZER_FILES)
        return text.Tokenizer(own if is_there else FILES / "sd1" / "tokenizer")

    def _build(self, source: Source, part: str, kind: Any, dtype: torch.dtype) -> nn.Module:
        """A part that diffusers knows."""
        config = dict(source.configs[part])
        module: nn.Module = build(
            lambda: kind.from_config(config), source.read(part), dtype, f"The {part} of {source.name}"
        )
        return module


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer is a 1x1 convolution, which is a linear layer for each pixel."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)


def _hashes(file: Path, word: str, cache_dir: Path | None) -> dict[str, str]:
    """kohya's two hashes of a file, old and new."""
    new = remembered("sha256", [file], lambda: file_sha256(file), cache_dir)
    return {f"ss_{word}_hash": legacy_hash(file), f"ss_new_{word}_hash": new}
