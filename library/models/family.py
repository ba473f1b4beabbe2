"""What the rest of the house knows of a base model, and how one is recognised and opened."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from library.errors import InputError, blaming
from library.files import expanded
from library.lookup import FAMILIES, resolve
from library.models.hub import download
from library.models.layout import STEMS, Source, open_folder, what_it_is
from library.models.single_file import open_file

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
FILE_ENDINGS = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


class Condition(NamedTuple):
    """What the UNet is told of a batch: the captions' hidden states (batch, tokens, width), and where the family
    has them, a pooled vector (batch, width), and sizes (batch, 6) in pixels: height and width of the picture as
    it was, top and left of the crop, height and width of the result.
    """

    hidden: Tensor
    pooled: Tensor | None = None
    sizes: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        """The same with every part that is there changed."""
        hidden, *others = (None if part is None else change(part) for part in self)
        assert hidden is not None
        return Condition(hidden, *others)


class Tokens(NamedTuple):
    """A batch of captions for one text encoder: token ids (batch, chunks, 77), and in the same shape the weight of
    each token where the captions are weighted.
    """

    ids: Tensor
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Tokens":
        """The same on a device."""
        return Tokens(self.ids.to(device), None if self.weights is None else self.weights.to(device))


class Family(Protocol):
    """A base model: its parts, loaded one by one, and everything that differs from family to family.

    A part is "unet", "vae" or one of `text_parts`; `takes_sizes` says whether `Condition.sizes` is read. `betas`
    are the noise schedule's start, end and steps, scaled-linear; `latent_scale` brings latents to about unit
    variance; `default_size` is in pixels. With `zero_terminal_snr` the schedule is stretched to end in pure noise.
    """

    name: str
    base_model_version: str
    architecture: str
    prediction_type: str
    latent_scale: float
    betas: tuple[float, float, int]
    default_size: int
    base_name: str
    text_parts: tuple[str, ...]
    takes_sizes: bool
    zero_terminal_snr: bool

    @classmethod
    def recognises(cls, source: Source) -> bool:
        """Whether `source` is a model of this family."""

    def __init__(self, source: Source, vae: Source | None) -> None:
        """The model in `source`, with the VAE of another model if one is given."""

    def load_vae(self, dtype: torch.dtype) -> nn.Module:
        """The VAE on the CPU, frozen, in `dtype`; in float16 some overflow."""

    def load_text_encoders(self, dtype: torch.dtype) -> list[nn.Module]:
        """The text encoders on the CPU, frozen, in `dtype`."""

    def load_unet(self, dtype: torch.dtype) -> nn.Module:
        """The UNet on the CPU, frozen, in `dtype`."""

    def part_tensors(self, part: str) -> dict[str, Tensor]:
        """A part's tensors as they are in the model's files, by the names of `checkpoints.part_tensors`."""

    def configs(self) -> dict[str, dict[str, Any]]:
        """The configuration of each part and of the "scheduler" in diffusers' words, to be written with the model."""

    def tokenize(self, captions: Sequence[str], max_token_length: int, weighted: bool = False) -> list[Tokens]:
        """The tokens for each text encoder; longer captions are cut, and `weighted` ones read with their weights."""

    def tokenize_prompts(self, prompts: Sequence[str], max_token_length: int | None = None) -> list[Tokens]:
        """The tokens for each text encoder of prompts in the web UI's grammar, whole unless a length is given."""

    def chunk_count(self, prompt: str) -> int:
        """How many chunks of 75 tokens `tokenize_prompts` makes of a prompt."""

    def add_word(self, word: str, vectors: int) -> None:
        """Lets `word` be read as so many new tokens, behind all others; see embeddings.add_rows for the encoders."""

    def token_count(self, caption: str, weighted: bool = False) -> int:
        """How many tokens a caption has, so that a caller can say what `tokenize` will cut."""

    def encode_text(
        self, encoders: Sequence[nn.Module], tokens: Sequence[Tokens], clip_skip: int | None = None
    ) -> Condition:
        """The condition of a batch, from the `clip_skip`-th last layer (1 or None: the last)."""

    def predict(self, unet: nn.Module, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """The UNet's answer, shaped as `noisy` (batch, channels, height, width); timesteps are (batch,)."""

    def adapter_layers(self, module: nn.Module, part: str) -> dict[str, str]:
        """The layers that adapters take by default: module path to name in kohya's files, in order."""

    def every_layer(self, module: nn.Module, part: str) -> dict[str, str]:
        """All layers of a part that an adapter can change, norms of the UNet too, in the same form."""

    def diffusers_name(self, part: str, path: str) -> str:
        """The dotted name of a layer in files of the diffusers/PEFT layout, from its module path."""

    def encode_images(self, vae: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the unscaled latents, float32, of pixels (batch, 3, 8h, 8w) in [-1, 1]."""

    def decode_latents(self, vae: nn.Module, latents: Tensor) -> Tensor:
        """Pixels (batch, 3, 8h, 8w) in [-1, 1], float32, of latents that are scaled by `latent_scale`."""

    def fingerprint(self, part: str, cache_dir: Path | None = None) -> str:
        """A hash of a part's weights, the same for the same weights in any file; kept in `cache_dir`.

        Here "tokenizer" is a part too, whose vocabulary is hashed.
        """

    def base_hashes(self, cache_dir: Path | None = None) -> dict[str, str]:
        """The `ss_*` entries that say from which files the model came."""


def open_family(name_or_path: str, vae: str | None = None) -> Family:
    """The base model in a diffusers folder, a hub id, or a single .safetensors, .ckpt or .pt file.

    Looks at configurations and headers only; weights are loaded part by part later. `vae` names another model
    or VAE, in any of these forms, whose VAE is used instead. Raises InputError, saying what was found.
    """
    parts = [part for part in STEMS if part != "vae" or not vae]
    source = open_source(name_or_path, parts, "base model")
    replacement = open_source(vae, ["vae"], "VAE") if vae else None
    for target in FAMILIES.values():
        family = resolve(target)
        with blaming(source.name):
            if not source.instead and family.recognises(source):
                opened: Family = family(source, replacement)
                return opened
    known = ", ".join(FAMILIES)
    with blaming(source.name):
        found = what_it_is(source)
    raise InputError(f"{source.name} is {found}; base models of these kinds are known: {known}.")


def open_source(name: str, parts: Sequence[str], what: str) -> Source:
    """The model at a path, or else on the hub, from where only `parts` are fetched; `what` is it for."""
    path = expanded(name)
    if name and os.path.isdir(path):
        return open_folder(name, path)
    if os.path.isfile(path):
        return open_file(name, path)
    if name.lower().endswith(FILE_ENDINGS) or not HUB_ID.fullmatch(name):
        raise InputError(
            f"The {what} {name!r} is not there; "
            "name a folder, a .safetensors or .ckpt file, or a hub id such as user/name."
        )
    return open_folder(name, download(name, parts))
