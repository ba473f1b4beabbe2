"""What all families of Stable Diffusion share: a VAE, CLIP text encoders, a UNet, and how each is loaded and used."""

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
from library.models.layout import FILES, Source, build, remembered, usual_config
from library.weights import file_sha256, legacy_hash

PIXELS = 8  # of a picture for one of the latents, each way
OF_ONE_FILE = ("_name_or_path", "torch_dtype", "dtype")  # what configurations say of the file beside them
TOKENIZER_FILES = ("vocab.json", "tokenizer.json")


class StableDiffusion:
    """A family with a UNet of diffusers' UNet2DConditionModel; what differs stands in the classes made from it."""

    name: str
    base_model_version: str
    architecture: str
    scale = 0.18215  # of latents, where the model does not say
    text_parts: tuple[str, ...] = ("text_encoder",)
    takes_sizes = False  # whether the UNet is told each picture's size and crop
    betas = (0.00085, 0.012, 1000)

    def __init__(self, source: Source, vae: Source | None = None) -> None:
        self._source, self._vae = source, vae or source
        remedy = "" if vae else " Name a VAE's file, folder or hub id with the setting vae."
        for part in ("unet", *self.text_parts):
            source.require(part)
        self._vae.require("vae", remedy)
        scheduler = source.configs.get("scheduler", {})
        self.prediction_type: str = scheduler.get("prediction_type", "epsilon")
        self.zero_terminal_snr = bool(scheduler.get("rescale_betas_zero_snr", False))
        own = source.configs.get("vae") or self._vae.configs["vae"]  # the UNet learned on its own VAE's scale
        self.latent_scale = float(own.get("scaling_factor", self.scale))
        self.default_size = PIXELS * int(source.configs["unet"].get("sample_size", 64))
        self.base_name = source.label
        channels = self._vae.configs["vae"].get("latent_channels", 4)
        if channels != 4:
            raise InputError(f"The VAE in {self._vae.name} makes {channels} latent channels; 4 are needed.")

    def load_vae(self, dtype: torch.dtype) -> nn.Module:
        """The VAE on the CPU, frozen, in `dtype`; in float16 some overflow."""
        return self._build(self._vae, "vae", AutoencoderKL, dtype)

    def load_text_encoders(self, dtype: torch.dtype) -> list[nn.Module]:
        """The text encoders in the order of `text_parts`, on the CPU, frozen, in `dtype`."""
        source = self._source
        return [
            text.load_text_encoder(
                source.configs[part],
                source.read(part),
                dtype,
                f"The {part.replace('_', ' ')} of {source.name}",
                projects=part == "text_encoder_2",
            )
            for part in self.text_parts
        ]

    def load_unet(self, dtype: torch.dtype) -> nn.Module:
        """The UNet on the CPU, frozen, in `dtype`."""
        return self._build(self._source, "unet", UNet2DConditionModel, dtype)

    def part_tensors(self, part: str) -> dict[str, Tensor]:
        """A part's tensors as they are in the model's files, or in those of the VAE that takes the place of its own."""
        return (self._vae if part == "vae" else self._source).read(part)

    def configs(self) -> dict[str, dict[str, Any]]:
        """The configuration of each part, with the schedule and the scale of latents that the model is used with."""
        parts = {part: self._source.configs[part] for part in ("unet", *self.text_parts)}
        parts["vae"] = {**self._vae.configs["vae"], "scaling_factor": self.latent_scale}
        parts["scheduler"] = {
            **(self._source.configs.get("scheduler") or usual_config(self.name, "scheduler")),
            "prediction_type": self.prediction_type,
            "rescale_betas_zero_snr": self.zero_terminal_snr,
        }
        return {part: {key: config[key] for key in config if key not in OF_ONE_FILE} for part, config in parts.items()}

    def tokenize(self, captions: Sequence[str], max_token_length: int, weighted: bool = False) -> list[Tokens]:
        """The tokens for each text encoder; captions beyond the length are cut."""
        if weighted:
            return [Tokens(*each.weighted(captions, max_token_length)) for each in self._tokenizers]
        return [Tokens(each(captions, max_token_length)) for each in self._tokenizers]

    def tokenize_prompts(self, prompts: Sequence[str], max_token_length: int | None = None) -> list[Tokens]:
        """The tokens for each text encoder of prompts in the web UI's grammar: weights, and BREAK."""
        return [Tokens(*each.prompts(prompts, max_token_length)) for each in self._tokenizers]

    def chunk_count(self, prompt: str) -> int:
        """How many chunks of 75 tokens `tokenize_prompts` makes of a prompt."""
        return self._tokenizers[0].chunk_count(prompt)

    def add_word(self, word: str, vectors: int) -> None:
        """Lets `word` be read as so many new tokens, in the order of adding; each encoder needs rows for them.

        Raises InputError for a word that the vocabulary has, and for one that cannot stand in a caption.
        """
        for part, tokenizer in zip(self.text_parts, self._tokenizers, strict=True):
            tokenizer.add_word(word, vectors, int(self._source.configs[part].get("vocab_size", text.END + 1)))

    def token_count(self, caption: str, weighted: bool = False) -> int:
        """How many tokens a caption has; `tokenize` cuts those beyond `max_token_length`."""
        return self._tokenizers[0].count(caption, weighted)

    def encode_text(
        self, encoders: Sequence[nn.Module], tokens: Sequence[Tokens], clip_skip: int | None = None
    ) -> Condition:
        """Hidden states (batch, 75 * chunks + 2, width) of the `clip_skip`-th last layer, normed and weighed."""
        return Condition(text.encode(encoders[0], tokens[0].ids, clip_skip, tokens[0].weights))

    def predict(self, unet: Any, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """The UNet's answer, shaped as `noisy`: (batch, 4, height / 8, width / 8)."""
        dtype = unet.conv_in.weight.dtype
        answer: Tensor = unet(noisy.to(dtype), timesteps, encoder_hidden_states=condition.hidden.to(dtype)).sample
        return answer

    def adapter_layers(self, module: nn.Module, part: str) -> dict[str, str]:
        """sd-scripts' default choice: all linear layers and 1x1 convolutions of the UNet's transformers, all
        linear layers of the text encoders' attention and MLP.
        """
        if part in self.text_parts:
            return text.adapter_layers(module, self.text_prefix(part))
        chosen = []
        for path, block in module.named_modules():
            if isinstance(block, Transformer2DModel):
                for name, layer in block.named_modules():
                    if isinstance(layer, nn.Linear) or _is_pointwise(layer):
                        chosen.append(f"{path}.{name}")
        names = self.unet_stems(module)
        return {path: f"lora_unet_{names[path]}".replace(".", "_") for path in chosen}

    def every_layer(self, module: nn.Module, part: str) -> dict[str, str]:
        """All linear layers, convolutions and norms of the UNet; of text encoders those of attention and MLP, as no UI
        changes others.
        """
        if part in self.text_parts:
            return text.adapter_layers(module, self.text_prefix(part))
        names = self.unet_stems(module)
        kinds = (nn.Linear, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
        found = (path for path, layer in module.named_modules() if isinstance(layer, kinds))
        return {path: f"lora_unet_{names[path]}".replace(".", "_") for path in found}

    def text_prefix(self, part: str) -> str:
        """How the names of a text encoder's layers begin in kohya's files."""
        return "lora_te"

    def unet_stems(self, unet: nn.Module) -> dict[str, str]:
        """Each module of the UNet by its path, with the dotted name that kohya's files have it under."""
        return {path: path for path, _ in unet.named_modules()}

    def diffusers_name(self, part: str, path: str) -> str:
        """The layer's name in files of the diffusers/PEFT layout."""
        return f"{part}.{text.file_path(path) if part in self.text_parts else path}"

    def encode_images(self, vae: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latents, unscaled, float32: (batch, 4, h, w) of (batch, 3, 8h, 8w)."""
        with torch.autocast(pixels.device.type, enabled=False):
            latents = vae.encode(pixels.to(next(vae.parameters()).dtype)).latent_dist
        return latents.mean.float(), latents.logvar.float()

    def decode_latents(self, vae: Any, latents: Tensor) -> Tensor:
        """Pixels (batch, 3, 8h, 8w) in [-1, 1], float32, of scaled latents (batch, 4, h, w)."""
        with torch.autocast(latents.device.type, enabled=False):
            unscaled = (latents.float() / self.latent_scale).to(next(vae.parameters()).dtype)
            pixels: Tensor = vae.decode(unscaled).sample
        return pixels.float().clamp(-1, 1)

    def fingerprint(self, part: str, cache_dir: Path | None = None) -> str:
        """A hash of a part's weights, the same in whatever file they are; or of all tokenizers."""
        if part == "tokenizer":
            return " ".join(each.fingerprint for each in self._tokenizers)
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
    def _tokenizers(self) -> list[text.Tokenizer]:
        """For each text encoder the model's own tokenizer, or the one that all of this family share."""
        return [self._tokenizer(part.replace("text_encoder", "tokenizer")) for part in self.text_parts]

    def _tokenizer(self, folder: str) -> text.Tokenizer:
        """One of them; all families have the same vocabulary, and fill up short captions in their own way."""
        own = self._source.path / folder
        is_there = any((own / name).is_file() for name in TOKENIZER_FILES)
        return text.Tokenizer(own if is_there else FILES / "sd1" / "tokenizer", self.padding(folder))

    def padding(self, folder: str) -> int | None:
        """The token that short captions are filled up with; None stands for the one that ends them."""
        return None

    def _build(self, source: Source, part: str, kind: Any, dtype: torch.dtype) -> nn.Module:
        """A part that diffusers knows."""
        config = dict(source.configs[part])
        module: nn.Module = build(
            lambda: kind.from_config(config), source.read(part), dtype, f"The {part} of {source.name}"
        )
        return module


def reads_one_text(source: Source) -> bool:
    """Whether a model's UNet is told of the states of one text encoder and of nothing else."""
    unet, encoder = source.configs.get("unet", {}), source.configs.get("text_encoder", {})
    told = ("addition_embed_type", "class_embed_type", "num_class_embeds")
    return (
        unet.get("in_channels") == 4
        and not any(unet.get(word) for word in told)
        and "text_encoder_2" not in source.configs
        and unet.get("cross_attention_dim") == encoder.get("hidden_size")
    )


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether a layer is a 1x1 convolution, which is a linear layer for each pixel."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)


def _hashes(file: Path, word: str, cache_dir: Path | None) -> dict[str, str]:
    """kohya's two hashes of a file, old and new."""
    new = remembered("sha256", [file], lambda: file_sha256(file), cache_dir)
    return {f"ss_{word}_hash": legacy_hash(file), f"ss_new_{word}_hash": new}
