"""Single-file models: what is inside, by tensor names and shapes, and its tensors by diffusers' names."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from library.errors import InputError, blaming
from library.models.layout import EDM, REFINER, Source, plain_text_names, plain_vae_names, usual_config
from library.models.original import UNET, from_open_clip
from library.models.sizes import SIZES, Shapes, sd2_text_sizes
from library.weights import load_checkpoint, load_tensors, read_checkpoint, read_header

VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
VAES = ("first_stage_model.", "vae.", "")  # the last for a file that holds a VAE alone

# The folder of configurations that a model is built after -> the prefixes of its text encoders' names.
LAYOUTS = {
    "sdxl": {
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sd1": {"text_encoder": "cond_stage_model.transformer."},
}
# Names by which a text encoder is found, in transformers' words and in OpenCLIP's.
TEXT_MARKS = ("layers.0.mlp.fc1.weight", "transformer.resblocks.0.mlp.c_fc.weight")
LAYER = re.compile(r"encoder\.layers\.(\d+)\.")
# By this ComfyUI and Forge tell the models of Stable Diffusion 2 apart.
WIDE_BIAS, WIDE = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias", 0.09
TOLD = 6  # numbers that the UNet of XL is told beside the text
V_SIZE = 96  # latents each way of the pictures that they learned on
# Files for ComfyUI and Forge say with these empty tensors that the model predicts v, and from pure noise on.
PREDICTS_V, ZERO_SNR = "v_pred", "ztsnr"

# Our own files say here, as JSON, what tensors do not tell: heads and groups, scale and size of latents.
STRUCTURE = "easel.structure"
STRUCTURE_KEYS = {
    "unet_heads": ("unet", "attention_head_dim"),
    "unet_groups": ("unet", "norm_num_groups"),
    "unet_sample_size": ("unet", "sample_size"),
    "vae_groups": ("vae", "norm_num_groups"),
    "vae_scale": ("vae", "scaling_factor"),
    "text_heads": ("text_encoder", "num_attention_heads"),
    "text_layers": ("text_encoder", "num_hidden_layers"),
    "text_2_heads": ("text_encoder_2", "num_attention_heads"),
}

# A tensor name that gives away a model which is built like a base model and is none that we know.
OTHER_MODELS = {
    r"^conditioner\.embedders\.0\.model\.": REFINER,
    r"^embedder\.model\.|^noise_augmentor\.": "a Stable Diffusion 2.x model for variations of pictures (unCLIP)",
    r"^edm_mean$|^edm_vpred\.": EDM,
}

# A tensor name that gives away what a file is that holds no base model.
OTHER_KINDS = {
    r"lora_(unet|te\d?)_|lora_(up|down)\.|\.lora\.|\.lora_[AB]\.": "a LoRA (it goes on top of a model)",
    r"hada_w1|lokr_w|oft_blocks": "an adapter of LyCORIS (it goes on top of a model)",
    r"^control_model\.|^controlnet_|^input_hint_block": "a ControlNet",
    r"^emb_params$|^string_to_param|^clip_[lg]$": "a textual inversion embedding",
    r"double_blocks\.0\.|joint_blocks\.0\.": "a model with a transformer in the place of a UNet",
    r"^down_blocks\.": "a UNet of diffusers' layout alone (name the folder of the whole model)",
    r"^input_blocks\.": "a UNet alone (a base model has its text encoder too)",
    r"text_model\.encoder\.": "a text encoder alone",
}


def open_file(name: str, path: Path) -> Source:
    """A .safetensors, .ckpt or .pt file in the original layout of Stable Diffusion, or of a VAE alone."""
    metadata, shapes = _look_into(path)
    with blaming(path):
        prefixes = _find_parts(shapes)
        configs = {} if not prefixes else _configs(path, metadata, shapes, prefixes)
    instead = _first_kind(OTHER_MODELS, shapes) or ("" if prefixes else _instead(shapes))

    def read(part: str) -> dict[str, Tensor]:
        with blaming(path):
            return _read_part(path, part, prefixes[part], configs[part])

    return Source(name, path, configs, {part: (path,) for part in prefixes}, read, instead)


def _look_into(path: Path) -> tuple[dict[str, str], Shapes]:
    """Metadata and the shape of each tensor."""
    if _is_safe(path):
        metadata, entries = read_header(path)
        return metadata, {key: shape for key, (_, shape) in entries.items()}
    metadata, tensors = read_checkpoint(path)
    return metadata, {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _is_safe(path: Path) -> bool:
    """Whether a file is no pickle."""
    return path.suffix.lower() == ".safetensors"


def _find_parts(shapes: Shapes) -> dict[str, str]:
    """The parts that are in the file, with the prefixes of their names."""
    prefixes = {}
    if UNET + "input_blocks.0.0.weight" in shapes:
        prefixes["unet"] = UNET
    for prefix in VAES:
        if prefix + "encoder.conv_in.weight" in shapes and prefix + "decoder.conv_in.weight" in shapes:
            prefixes["vae"] = prefix
            break
    layout = _layout_of(shapes)
    return prefixes | (LAYOUTS[layout] if layout else {})


def _layout_of(shapes: Shapes) -> str | None:
    """The first layout whose text encoders are all in the file."""
    for layout, prefixes in LAYOUTS.items():
        marks = {prefix: tuple(key for key in shapes if key.startswith(prefix)) for prefix in prefixes.values()}
        if all(any(key.endswith(TEXT_MARKS) for key in keys) for keys in marks.values()):
            return layout
    return None


def _configs(
    path: Path, metadata: Mapping[str, str], shapes: Shapes, prefixes: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Each part's configuration: the family's own, with the sizes that the tensors have."""
    layout = _layout_of(shapes)
    base = layout or "sd1"
    configs = {part: usual_config(base, part) for part in prefixes}
    is_usual = True
    for part, prefix in prefixes.items():
        inside = {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}
        sizes = _measured(path, part, layout, inside)
        is_usual &= sizes.get("block_out_channels") == configs[part].get("block_out_channels")
        configs[part] |= sizes
    _set_extras(configs, layout)
    configs["scheduler"] = usual_config(base, "scheduler")
    if _predicts_v(path, metadata, shapes, layout):
        configs["scheduler"]["prediction_type"] = "v_prediction"
        if layout == "sd2" and "unet" in configs:
            configs["unet"]["sample_size"] = V_SIZE
    if ZERO_SNR in shapes:
        configs["scheduler"] |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    if STRUCTURE in metadata:
        _apply_structure(path, configs, metadata[STRUCTURE])
    elif not is_usual and (layout or "unet" not in prefixes):
        raise InputError(
            f"{path}: its channels are not those of Stable Diffusion, and it does not say how many attention "
            "heads and groups the model has; name the model's folder in diffusers' layout instead."
        )
    return configs


def _measured(path: Path, part: str, layout: str | None, inside: Shapes) -> dict[str, Any]:
    """A part's sizes, from the shapes of its tensors."""
    measure = sd2_text_sizes if (layout, part) == ("sd2", "text_encoder") else SIZES[part]
    try:
        return measure(inside)
    except (LookupError, ValueError, TypeError):
        raise InputError(f"{path}: the {part.replace('_', ' ')} in it is incomplete.") from None


def _set_extras(configs: dict[str, dict[str, Any]], layout: str | None) -> None:
    """What is told by two parts together."""
    if "unet" not in configs:
        configs.get("vae", {}).pop("scaling_factor", None)  # a VAE alone does not tell for which family it is
    elif layout == "sdxl":
        pooled = configs["text_encoder_2"]["projection_dim"]
        numbers = configs["unet"].get("projection_class_embeddings_input_dim", pooled) - pooled
        configs["unet"]["addition_time_embed_dim"] = numbers // TOLD


def _predicts_v(path: Path, metadata: Mapping[str, str], shapes: Shapes, layout: str | None) -> bool:
    """Whether the file says that its UNet predicts v; those of Stable Diffusion 2 say it by a wide bias only."""
    if PREDICTS_V in shapes or "modelspec.prediction_type" in metadata:
        return PREDICTS_V in shapes or metadata["modelspec.prediction_type"].startswith("v")
    if layout != "sd2" or WIDE_BIAS not in shapes:
        return False
    tensors = load_tensors(path, [WIDE_BIAS]) if _is_safe(path) else load_checkpoint(path)
    return float(tensors[WIDE_BIAS].float().std()) > WIDE


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
    if _is_safe(path):
        names = [key for key in read_header(path)[1] if key.startswith(prefix)]
        tensors = load_tensors(path, names)
    else:
        tensors = {key: tensor for key, tensor in load_checkpoint(path).items() if key.startswith(prefix)}
    if part == "unet":
        return _converted(path, part, lambda: convert_ldm_unet_checkpoint(tensors, dict(config)))
    plain = {key[len(prefix) :]: tensor for key, tensor in tensors.items()}
    if part in ("text_encoder", "text_encoder_2"):
        return _read_text(plain, part, config)
    plain = {key: tensor for key, tensor in plain.items() if key.startswith(VAE_PARTS)}
    if "encoder.down_blocks.0.resnets.0.conv1.weight" in plain:
        return plain_vae_names(plain)
    return _converted(path, part, lambda: convert_ldm_vae_checkpoint(plain, dict(config)))


def _read_text(plain: Mapping[str, Tensor], part: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """A text encoder's tensors by transformers' names, of the layers that the configuration counts."""
    if "token_embedding.weight" not in plain:
        return plain_text_names(plain)
    named = from_open_clip(plain)
    count = config["num_hidden_layers"]
    kept = {key: tensor for key, tensor in named.items() if not (found := LAYER.match(key)) or int(found[1]) < count}
    if part == "text_encoder":
        kept.pop("text_projection.weight", None)
    return kept


def _converted(path: Path, part: str, convert: Callable[[], dict[str, Tensor | None]]) -> dict[str, Tensor]:
    """What diffusers' conversion gives, without the holes that it leaves for missing tensors."""
    try:
        return {key: tensor for key, tensor in convert().items() if tensor is not None}
    except KeyError as error:
        raise InputError(f"{path}: the {part} in it lacks {error.args[0]}; the model is damaged.") from None


def _first_kind(kinds: Mapping[str, str], shapes: Shapes) -> str:
    """The first kind whose pattern is in a tensor's name, if any."""
    found = (kind for pattern, kind in kinds.items() if any(re.search(pattern, key) for key in shapes))
    return next(found, "")


def _instead(shapes: Shapes) -> str:
    """What a file is that holds no base model."""
    examples = ", ".join(sorted(shapes)[:3]) or "none"
    unknown = f"no model that is known here ({len(shapes)} tensors: {examples})"
    return _first_kind(OTHER_KINDS, shapes) or unknown
