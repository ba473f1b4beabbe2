"""The names of LoRA tensors on disk: kohya's layout and that of diffusers, both read into one form."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from library.documents import read_json
from library.errors import InputError
from library.names import from_original, unet_names
from library.weights import load_any, read_header

# The leaves of a plain LoRA; a Tucker core ("lora_mid") is multiplied into the first when a file is read.
DOWN, UP, ALPHA, MID = "lora_down.weight", "lora_up.weight", "alpha", "lora_mid.weight"
PEFT_DOWN, PEFT_UP = "lora_A.weight", "lora_B.weight"

# How a stem begins, for each part of a model in the dotted layout: with one text encoder, and with two.
PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te"}
XL_PREFIXES = {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"}
PARTS = {prefix: part for table in (PREFIXES, XL_PREFIXES) for part, prefix in table.items()}

# Layers that only Stable Diffusion XL has; its stems in kohya's files have the names of the original layout.
XL_MARK = re.compile(r"text_encoder_2\.|unet\..*\.transformer_blocks\.[1-9]|unet\.up_blocks\.0\.attentions\.")

# Names of modules that have underscores of their own.
MODULE_NAMES = (
    "down_blocks|mid_block|up_blocks|transformer_blocks|proj_in|proj_out|to_q|to_k|to_v|to_out|time_emb_proj|"
    "conv_shortcut|conv_in|conv_out|time_embedding|linear_[12]|text_model|self_attn|[qkv]_proj|out_proj|"
    "input_blocks|middle_block|output_blocks|in_layers|emb_layers|out_layers|skip_connection|time_embed|label_emb|"
    "add_embedding|text_projection|conv_norm_out|final_layer_norm|layer_norm[12]|(?:token|position)_embedding"
)

# The entry of the file's metadata in which diffusers keeps the LoraConfig of every part.
PEFT_CONFIG = "lora_adapter_metadata"


class LoraWeights(NamedTuple):
    """One layer's low-rank change of a weight: alpha / rank * up @ down.

    `down` is (rank, in) or (rank, in, height, width), `up` (out, rank) or (out, rank, 1, 1).
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return self.down.shape[0]

    @property
    def scale(self) -> float:
        """What `up @ down` is multiplied with."""
        return self.alpha / self.rank

    def cpu(self) -> "LoraWeights":
        """The same on the CPU."""
        return LoraWeights(self.down.cpu(), self.up.cpu(), self.alpha)

    def delta(self) -> Tensor:
        """The change of the weight itself, float32: (out, in), or (out, in, height, width)."""
        product = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return self.scale * product.reshape(self.up.shape[0], *self.down.shape[1:])


class Dims(NamedTuple):
    """The rank of every layer of a file by its stem, and the alpha that most of them have."""

    ranks: dict[str, int]
    alpha: float


def read_adapter(path: Path) -> dict[str, LoraWeights]:
    """Every layer of a LoRA file in either layout, by its stem.

    Raises InputError if the file is no LoRA, or one of another kind (LoHa, LoKr, DoRA ...).
    """
    metadata = read_header(path)[0] if Path(path).suffix.lower() == ".safetensors" else {}
    return parse_adapter(load_any(path), metadata, str(path))


def parse_adapter(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str
) -> dict[str, LoraWeights]:
    """The layers in the tensors of a file; `name` is for the error messages."""
    if not tensors:
        raise InputError(f"{name} holds no tensors.")
    if any(key.endswith((PEFT_DOWN, PEFT_UP)) for key in tensors):
        return _from_diffusers(tensors, metadata, name)
    return _from_kohya(tensors, name)


def dims_of(path: Path) -> Dims:
    """Ranks and alpha of a LoRA file, for a network that is made like it (`dim_from_weights`)."""
    layers = read_adapter(path)
    alphas = Counter(layer.alpha for layer in layers.values())
    return Dims({stem: layer.rank for stem, layer in layers.items()}, alphas.most_common(1)[0][0])


def to_kohya(layers: Mapping[str, LoraWeights], alpha: float | None = None) -> dict[str, Tensor]:
    """The tensors of kohya's layout, all with one alpha (the most common one, unless given).

    Where a layer's own alpha differs, `up` takes the difference: diffusers 0.42 mixes differing alphas up.
    """
    if alpha is None:
        alpha = Counter(layer.alpha for layer in layers.values()).most_common(1)[0][0]
    return {
        f"{stem}.{leaf}": tensor for stem, layer in layers.items() for leaf, tensor in to_leaves(layer, alpha).items()
    }


def to_leaves(layer: LoraWeights, alpha: float | None = None) -> dict[str, Tensor]:
    """One layer's tensors by kohya's last names; `up` takes the difference from another alpha."""
    alpha = layer.alpha if alpha is None else alpha
    up = layer.up if layer.alpha == alpha else layer.up * (layer.alpha / alpha)
    return {DOWN: layer.down, UP: up, ALPHA: torch.tensor(alpha)}


def to_diffusers(layers: Mapping[str, LoraWeights]) -> dict[str, Tensor]:
    """The tensors of the layout of diffusers and PEFT.

    It has no alpha, which means alpha = rank; so alpha / rank is multiplied into `lora_B`.
    """
    state: dict[str, Tensor] = {}
    for stem, layer in layers.items():
        up = layer.up if layer.scale == 1 else layer.up * layer.scale
        name = dotted_of(stem)
        state |= {f"{name}.{PEFT_DOWN}": layer.down, f"{name}.{PEFT_UP}": up}
    return state


def stem_of(dotted: str, is_xl: bool = False) -> str:
    """kohya's stem for a layer's name in the dotted layout, such as "unet.mid_block.attentions.0.proj_in".

    Files always have the text encoder's `text_model`, which transformers 5.6 dropped from its module names.
    """
    part, _, path = dotted.partition(".")
    if part != "unet" and not path.startswith(("text_model.", "text_projection")):
        path = f"text_model.{path}"
    if part == "unet" and is_xl:
        # The index of an upsampler is 2 in all of XL's blocks: each has attention.
        path = unet_names([path, f"{'.'.join(path.split('.')[:2])}.attentions."])[path]
    prefix = (XL_PREFIXES if is_xl else PREFIXES)[part]
    return f"{prefix}_{path.replace('.', '_')}"


def dotted_of(stem: str) -> str:
    """The reverse of `stem_of`: underscores become dots, except within the names of modules."""
    part = part_of(stem)
    if part is None:
        raise InputError(f'the layer "{stem}" has no name in the layout of diffusers.')
    prefix = next(each for each in PARTS if stem.startswith(f"{each}_"))
    path = stem.removeprefix(f"{prefix}_")
    path = re.sub(rf"(?<![a-z])({MODULE_NAMES})(?![a-z])|_", lambda found: found[1] or ".", path)
    return f"{part}.{from_original(path) if part == 'unet' else path}"


def part_of(stem: str) -> str | None:
    """The part of the model that a stem belongs to, if its beginning says so."""
    return next((part for prefix, part in PARTS.items() if stem.startswith(f"{prefix}_")), None)


def _from_kohya(tensors: Mapping[str, Tensor], name: str) -> dict[str, LoraWeights]:
    leaves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stem, _, leaf = key.partition(".")
        if leaf not in (DOWN, UP, ALPHA, MID):
            raise unknown_key(key, name)
        leaves.setdefault(stem, {})[leaf] = tensor
    layers = {}
    for stem, found in leaves.items():
        _check_pair(stem, found, (DOWN, UP), name)
        down, up = found[DOWN], found[UP]
        if MID in found:
            down = torch.einsum("mnkl,nj->mjkl", found[MID].float(), down.float().flatten(1))
        alpha = float(found[ALPHA]) if ALPHA in found else float(down.shape[0])
        layers[stem] = _checked(stem, LoraWeights(down, up, alpha), name)
    return layers


def _from_diffusers(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str
) -> dict[str, LoraWeights]:
    leaves: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        base, _, leaf = key.rpartition(".lora_")
        if not base or base.partition(".")[0] not in XL_PREFIXES or f"lora_{leaf}" not in (PEFT_DOWN, PEFT_UP):
            raise unknown_key(key, name)
        leaves.setdefault(base, {})[f"lora_{leaf}"] = tensor
    config = read_json(metadata.get(PEFT_CONFIG))
    is_xl = any(XL_MARK.match(base) for base in leaves)
    layers = {}
    for base, found in leaves.items():
        _check_pair(base, found, (PEFT_DOWN, PEFT_UP), name)
        alpha = _configured_alpha(config, base, found[PEFT_DOWN].shape[0])
        weights = LoraWeights(found[PEFT_DOWN], found[PEFT_UP], alpha)
        layers[stem_of(base, is_xl)] = _checked(base, weights, name)
    return layers


def _configured_alpha(config: Mapping[str, Any], base: str, rank: int) -> float:
    """A layer's alpha from the LoraConfig in the metadata; without one it is the rank.

    PEFT's `rank_pattern` and `alpha_pattern` are regular expressions for the ends of module names.
    """
    part, _, path = base.partition(".")
    alpha = float(config.get(f"{part}.lora_alpha", rank))
    for pattern, value in (config.get(f"{part}.alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", path):
            alpha = float(value)
            break
    # "Rank-stabilised" LoRA divides by the root of the rank (arXiv 2312.03732).
    return alpha * rank**0.5 if config.get(f"{part}.use_rslora") else alpha


def unknown_key(key: str, name: str) -> InputError:
    """What is said of a key that is not understood."""
    return InputError(
        f'{name} has the key "{key}", which belongs to no plain LoRA in the layout of kohya '
        f"(lora_unet_... .{DOWN}) or diffusers (unet. ... .{PEFT_DOWN}); no other kind is known here."
    )


def _check_pair(stem: str, found: Mapping[str, Tensor], needed: tuple[str, str], name: str) -> None:
    for leaf in needed:
        if leaf not in found:
            raise InputError(f'{name} is incomplete: "{stem}.{leaf}" is missing.')


def _checked(stem: str, weights: LoraWeights, name: str) -> LoraWeights:
    down, up = weights.down, weights.up
    if down.dim() != up.dim() or down.dim() not in (2, 4) or up.shape[1] != down.shape[0] or not len(down):
        shapes = f"{tuple(down.shape)} and {tuple(up.shape)}"
        raise InputError(f"{name}: the shapes of {stem} do not fit each other: {shapes}.")
    return weights
