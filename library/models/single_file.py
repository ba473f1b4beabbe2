"""Single-file models: what is inside, by tensor names and shapes, and its tensors by diffusers' names."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from library.errors import InputError
from library.models.layout import FILES, Source, plain_text_names, plain_vae_names
from library.weights import load_checkpoint, load_tensors, read_checkpoint, read_header

Shapes = Mapping[str, tuple[int, ...]]

UNET = "model.diffusion_model."
VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
VAES = ("first_stage_model.", "vae.", "")  # the last for a file that holds a VAE alone
OPEN_CLIP = "cond_stage_model.model."
SDXL_TEXT = "conditioner.embedders."

# Prefix of the text encoder's names -> the folder of configurations that the model is built after.
LAYOUTS = {"cond_stage_model.transformer.": "sd1"}

# Our own files say here, as JSON, what tensors do not tell: heads and groups, scale and size of latents.
STRUCTURE = "easel.structure"
STRUCTURE_KEYS = {
    "unet_heads": ("unet", "attention_head_dim"),
    "unet_groups": ("unet", "norm_num_groups"),
    "unet_sample_size": ("unet", "sample_size"),
    "vae_groups": ("vae", "norm_num_groups"),
    "vae_scale": ("vae", "scaling_factor"),
    "text_heads": ("text_encoder", "num_attention_heads"),
}

# A tensor name that gives away what a file is that holds no base model.
OTHER_KINDS = {
    r"lora_(unet|te\d?)_|lora_(up|down)\.|\.lora\.|\.lora_[AB]\.": "a LoRA (it goes on top of a model)",
    r"hada_w1|lokr_w|oft_blocks": "an adapter of LyCORIS (it goes on top of a model)",
    r"^control_model\.|^controlnet_|^input_hint_block": "a ControlNet",
    r"^emb_params$|^string_to_param|^clip_[lg]$": "a textual inversion embedding",
    r"double_blocks\.0\.|joint_blocks\.0\.": "a model with a transformer in the place of a UNet",
    r"^down_blocks\.": "a UNet of diffusers' layout alone (name the folder of the whole model)",
    r"text_model\.encoder\.": "a text encoder alone",
}


def open_file(name: str, path: Path) -> Source:
    """A .safetensors, .ckpt or .pt file in the original layout of Stable Diffusion, or of a VAE alone."""
    metadata, shapes = _look_into(path)
    prefixes = _find_parts(shapes)
    configs = {} if not prefixes else _configs(path, metadata, shapes, prefixes)
    instead = "" if prefixes else _instead(shapes)

    def read(part: str) -> dict[str, Tensor]:
        return _read_part(path, part, prefixes[part], configs[part])

    return Source(name, path, configs, {part: (path,) for part in prefixes}, read, instead)


def _look_into(path: Path) -> tuple[dict[str, str], Shapes]:
    """Metadata and the shape of each tensor."""
    if path.suffix.lower() == ".safetensors":
        metadata, entries = read_header(path)
        return metadata, {key: shape for key, (_, shape) in entries.items()}
    metadata, tensors = read_checkpoint(path)
    return metadata, {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _find_parts(shapes: Shapes) -> dict[str, str]:
    """The parts that are in the file, with the prefixes of their names."""
    prefixes = {}
    if UNET + "input_blocks.0.0.weight" in shapes:
        prefixes["unet"] = UNET
    for prefix in VAES:
        if prefix + "encoder.conv_in.weight" in shapes and prefix + "decoder.conv_in.weight" in shapes:
            prefixes["vae"] = prefix
            break
    for prefix in LAYOUTS:
        if any(key.startswith(prefix) and key.endswith("layers.0.mlp.fc1.weight") for key in shapes):
            prefixes["text_encoder"] = prefix
    return prefixes


def _configs(
    path: Path, metadata: Mapping[str, str], shapes: Shapes, prefixes: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Each part's configuration: the family's own, with the sizes that the tensors have."""
    layout = LAYOUTS.get(prefixes.get("text_encoder", ""))
    folder = FILES / (layout or "sd1")
    configs: dict[str, dict[str, Any]] = {}
    is_usual = True
    for part, prefix in prefixes.items():
        inside = {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
        base = _read_json(folder / part / "config.json")
        try:
            configs[part] = base | SIZES[part](inside)
        except (KeyError, IndexError, ValueError):
            raise InputError(f"{path}: the {part.replace('_', ' ')} in it is incomplete.") from None
        is_usual &= configs[part].get("block_out_channels") == base.get("block_out_channels")
    if any(key.startswith(SDXL_TEXT) for key in shapes):
        configs["text_encoder_2"] = {}
    if any(key.startswith(OPEN_CLIP) for key in shapes):
        configs["text_encoder"] = {}
    if STRUCTURE in metadata:
        _apply_structure(path, configs, metadata[STRUCTURE])
    elif not is_usual and (layout or "unet" not in prefixes):
        raise InputError(
            f"{path}: its channels are not those of Stable Diffusion, and it does not say how many attention "
            "heads and groups the model has; name the model's folder in diffusers' layout instead."
        )
    configs["scheduler"] = _read_json(folder / "scheduler" / "scheduler_config.json")
    if metadata.get("modelspec.prediction_type", "").startswith("v"):
        configs["scheduler"]["prediction_type"] = "v_prediction"
    return configs


def _unet_sizes(shapes: Shapes) -> dict[str, Any]:
    """What the shapes tell of a UNet; its blocks are numbered through, and all but the last end with `op`."""
    count = 1 + max(int(key.split(".")[1]) for key in shapes if key.startswith("input_blocks."))
    ends = [number for number in range(count) if f"input_blocks.{number}.0.op.weight" in shapes]
    lasts = [number - 1 for number in ends] + [count - 1]
    sizes: dict[str, Any] = {
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": [shapes[f"input_blocks.{last}.0.out_layers.3.weight"][0] for last in lasts],
        "cross_attention_dim": _first(shapes, "attn2.to_k.weight")[1],
        "use_linear_projection": len(_first(shapes, "proj_in.weight")) == 2,
    }
    if "label_emb.0.0.weight" in shapes:
        sizes["addition_embed_type"] = "text_time"
    return sizes


def _first(shapes: Shapes, ending: str) -> tuple[int, ...]:
    """The shape of the first tensor whose name ends so; KeyError if there is none."""
    for key, shape in shapes.items():
        if key.endswith(ending):
            return shape
    raise KeyError(ending)


def _vae_sizes(shapes: Shapes) -> dict[str, Any]:
    """What the shapes tell of a VAE, in either naming."""
    name = "encoder.down.{}.block.0.conv1.weight"
    if name.format(0) not in shapes:
        name = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    channels = [shapes[name.format(number)][0] for number in range(4)]
    return {"block_out_channels": channels, "latent_channels": shapes["decoder.conv_in.weight"][1]}


def _text_sizes(shapes: Shapes) -> dict[str, Any]:
    """What the shapes tell of a CLIP text model; its heads are 64 wide, as in all of OpenAI's."""
    plain = {key.removeprefix("text_model."): shape for key, shape in shapes.items()}
    layers = {key.split(".")[2] for key in plain if key.startswith("encoder.layers.")}
    vocabulary, width = plain["embeddings.token_embedding.weight"]
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "projection_dim": width,
        "intermediate_size": plain["encoder.layers.0.mlp.fc1.weight"][0],
        "max_position_embeddings": plain["embeddings.position_embedding.weight"][0],
        "num_attention_heads": max(width // 64, 1),
        "num_hidden_layers": len(layers),
    }


SIZES: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "unet": _unet_sizes,
    "vae": _vae_sizes,
    "text_encoder": _text_sizes,
}


def _apply_structure(path: Path, configs: dict[str, dict[str, Any]], text: str) -> None:
    """Puts the numbers of our own metadata into the configurations."""
    try:
        for word, value in json.loads(text).items():
            part, key = STRUCTURE_KEYS[word]
            if part in configs:
                configs[part][key] = value
    except (ValueError, AttributeError, KeyError):
        raise InputError(f"{path}: the metadata {STRUCTURE} is broken: {text!r}.") from None


def _read_part(path: Path, part: str, prefix: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A part's tensors by diffusers' names."""
    if path.suffix.lower() == ".safetensors":
        names = [key for key in read_header(path)[1] if key.startswith(prefix)]
        tensors = load_tensors(path, names)
    else:
        tensors = {key: tensor for key, tensor in load_checkpoint(path).items() if key.startswith(prefix)}
    if part == "unet":
        return _converted(path, part, lambda: convert_ldm_unet_checkpoint(tensors, dict(config)))
    plain = {key[len(prefix) :]: tensor for key, tensor in tensors.items()}
    if part == "text_encoder":
        return plain_text_names(plain)
    plain = {key: tensor for key, tensor in plain.items() if key.startswith(VAE_PARTS)}
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in plain:
        return plain_vae_names(plain)
    return _converted(path, part, lambda: convert_ldm_vae_checkpoint(plain, dict(config)))


def _converted(path: Path, part: str, convert: Callable[[], dict[str, Tensor | None]]) -> dict[str, Tensor]:
    """What diffusers' conversion gives, without the holes that it leaves for missing tensors."""
    try:
        return {key: tensor for key, tensor in convert().items() if tensor is not None}
    except KeyError as error:
        raise InputError(f"{path}: the {part} in it lacks {error.args[0]}; the model is damaged.") from None


def _instead(shapes: Shapes) -> str:
    """What a file is that holds no base model."""
    for pattern, kind in OTHER_KINDS.items():
        if any(re.search(pattern, key) for key in shapes):
            return kind
    examples = ", ".join(sorted(shapes)[:3]) or "none"
    return f"no model that is known here ({len(shapes)} tensors: {examples})"


def _read_json(path: Path) -> dict[str, Any]:
    """One of our own configuration files."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
