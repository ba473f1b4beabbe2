"""A whole model written to disk: as one file in the original layout, or as a folder in diffusers' layout."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.models.layout import FILES, STEMS
from library.models.original import to_open_clip, unet_tensors, vae_tensors
from library.models.single_file import LAYOUTS, PREDICTS_V, STRUCTURE, STRUCTURE_KEYS
from library.weights import save_tensors

OPEN_CLIP = (".model.",)  # how the prefixes of OpenCLIP's text encoders end
CLASSES = {
    "sd1": ("StableDiffusionPipeline", {"text_encoder": "CLIPTextModel"}),
    "sd2": ("StableDiffusionPipeline", {"text_encoder": "CLIPTextModel"}),
    "sdxl": (
        "StableDiffusionXLPipeline",
        {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"},
    ),
}
Parts = Mapping[str, Mapping[str, Tensor]]


def part_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A part's tensors by the names of `Source.read`: text models without the prefix `text_model.`."""
    return {key.removeprefix("text_model."): tensor.detach() for key, tensor in module.state_dict().items()}


def original_tensors(family: str, parts: Parts) -> dict[str, Tensor]:
    """All tensors of a model by their names in the original layout.

    Args:
        family: "sd1", "sd2" or "sdxl"
        parts: "unet", "vae" and each text encoder, with the tensors that `part_tensors` gives
    """
    tensors = unet_tensors(parts["unet"]) | vae_tensors(parts["vae"])
    for part, prefix in LAYOUTS[family].items():
        if not prefix.endswith(OPEN_CLIP):
            tensors |= {f"{prefix}text_model.{key}": tensor for key, tensor in parts[part].items()}
            continue
        named = to_open_clip(parts[part])
        named["logit_scale"] = torch.tensor(1.0)  # scores pictures against words; drawing never uses it
        if family == "sd2":
            _fill_up(named)
        tensors |= {prefix + key: tensor for key, tensor in named.items()}
    return tensors


def write_file(path: Path, family: str, parts: Parts, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """Writes a checkpoint, whole or not at all, every tensor in `dtype`.

    Where the metadata say that the model predicts v, the empty tensor is there by which ComfyUI and Forge know.
    """
    tensors = {key: tensor.to(dtype) for key, tensor in original_tensors(family, parts).items()}
    if family == "sdxl" and metadata.get("modelspec.prediction_type", "").startswith("v"):
        tensors[PREDICTS_V] = torch.zeros(0, dtype=dtype)
    save_tensors(path, tensors, metadata)


def structure_metadata(configs: Mapping[str, Mapping[str, Any]], family: str) -> dict[str, str]:
    """What a model of unusual size has to say in its file, because tensors do not tell it; else nothing."""
    usual = json.loads((FILES / family / "unet" / "config.json").read_text(encoding="utf-8"))
    if list(configs["unet"]["block_out_channels"]) == usual["block_out_channels"]:
        return {}
    places = {word: place for word, place in STRUCTURE_KEYS.items() if place[0] in configs}
    return {STRUCTURE: json.dumps({word: configs[part].get(key) for word, (part, key) in places.items()})}


def write_folder(
    folder: Path, family: str, parts: Parts, configs: Mapping[str, Mapping[str, Any]], dtype: torch.dtype
) -> None:
    """Writes a folder in diffusers' layout, each file whole or not at all.

    Args:
        folder: its name
        family: "sd1", "sd2" or "sdxl"
        parts: as for `original_tensors`
        configs: the configuration of each part and of the "scheduler", in diffusers' words
        dtype: of all tensors in the files
    """
    pipeline, encoders = CLASSES[family]
    index: dict[str, Any] = {"_class_name": pipeline, "scheduler": ["diffusers", "PNDMScheduler"]}
    for part, tensors in parts.items():
        is_text = part in encoders
        index[part] = ["transformers", encoders[part]] if is_text else ["diffusers", configs[part]["_class_name"]]
        # Files keep the prefix `text_model.`, which transformers 5.6 dropped from its module names.
        named = {_file_name(key) if is_text else key: tensor.to(dtype) for key, tensor in tensors.items()}
        save_tensors(folder / part / f"{STEMS[part]}.safetensors", named, {"format": "pt"})
        _write_json(folder / part / "config.json", configs[part])
        if is_text:
            tokenizer = part.replace("text_encoder", "tokenizer")
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
            shutil.copytree(FILES / "sd1" / "tokenizer", folder / tokenizer, dirs_exist_ok=True)
            _set_padding(folder / tokenizer, family, part)
    _write_json(folder / "scheduler" / "scheduler_config.json", configs["scheduler"])
    if family != "sdxl":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    _write_json(folder / "model_index.json", index)


def _file_name(key: str) -> str:
    return key if key.startswith("text_projection.") else f"text_model.{key}"


def _fill_up(named: dict[str, Tensor]) -> None:
    """What files of Stable Diffusion 2 hold and nothing reads: a last layer and a projection."""
    number = max(int(key.split(".")[2]) for key in named if key.startswith("transformer.resblocks."))
    last = f"transformer.resblocks.{number}."
    copies = {key: tensor for key, tensor in named.items() if key.startswith(last)}
    named |= {key.replace(last, f"transformer.resblocks.{number + 1}."): each.clone() for key, each in copies.items()}
    named.setdefault("text_projection", torch.eye(len(named["ln_final.weight"])))


def _set_padding(folder: Path, family: str, part: str) -> None:
    """OpenCLIP's tokenizers fill up with an exclamation mark."""
    if family == "sd2" or part == "text_encoder_2":
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            path = folder / name
            text = path.read_text(encoding="utf-8")
            text = re.sub(r'("pad_token":\s*)"[^"]*"', r'\1"!"', text)
            path.write_text(text, encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(content), indent=2, default=str) + "\n", encoding="utf-8")
