"""A whole model written to disk: as one file in the original layout, or as a folder in diffusers' layout."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.files import MODEL_INDEX, write_atomically
from library.models.layout import FILES, STEMS, usual_config
from library.models.original import to_open_clip, unet_tensors, vae_tensors
from library.models.single_file import LAYOUTS, PREDICTS_V, STRUCTURE, STRUCTURE_KEYS, ZERO_SNR
from library.weights import stream_tensors

OPEN_CLIP = (".model.",)  # how the prefixes of OpenCLIP's text encoders end
CLASSES = {
    "sd1": ("StableDiffusionPipeline", {"text_encoder": "CLIPTextModel"}),
    "sd2": ("StableDiffusionPipeline", {"text_encoder": "CLIPTextModel"}),
    "sdxl": (
        "StableDiffusionXLPipeline",
        {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"},
    ),
}
DIFFUSERS = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
MODEL_FOLDERS = (*STEMS, "tokenizer", "tokenizer_2", "scheduler")
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
        # It scores pictures against words, and drawing never uses it.
        named["logit_scale"] = torch.tensor(1.0, dtype=next(iter(named.values())).dtype)
        if family == "sd2":
            _fill_up(named)
        tensors |= {prefix + key: tensor for key, tensor in named.items()}
    return tensors


def write_file(path: Path, family: str, parts: Parts, dtype: torch.dtype | None, metadata: Mapping[str, str]) -> None:
    """Writes a checkpoint, whole or not at all, every tensor in `dtype`, or in its own format where that is None.

    Where the metadata say that the model predicts v, and that it does from pure noise on, the empty tensors are
    there by which ComfyUI and Forge know.
    """
    tensors = original_tensors(family, parts)
    if family == "sdxl" and metadata.get("modelspec.prediction_type", "").startswith("v"):
        tensors[PREDICTS_V] = torch.zeros(0, dtype=dtype)
    if metadata.get("ss_zero_terminal_snr") == "True":
        tensors[ZERO_SNR] = torch.zeros(0, dtype=dtype)
    stream_tensors(path, tensors, dtype, metadata)


def structure_metadata(configs: Mapping[str, Mapping[str, Any]], family: str) -> dict[str, str]:
    """What a model of unusual size has to say in its file, because tensors do not tell it; else nothing."""
    channels = "block_out_channels"
    is_usual = list(configs["unet"][channels]) == usual_config(family, "unet")[channels]
    told = {}
    for word, (part, key) in STRUCTURE_KEYS.items():
        value = configs.get(part, {}).get(key)
        if value is not None:
            told[word] = list(value) if isinstance(value, tuple) else value
            is_usual &= told[word] == usual_config(family, part)[key]
    return {} if is_usual else {STRUCTURE: json.dumps(told)}


def write_folder(
    folder: Path, family: str, parts: Parts, configs: Mapping[str, Mapping[str, Any]], dtype: torch.dtype | None
) -> None:
    """Writes a folder in diffusers' layout, whole or not at all.

    Args:
        folder: its name; a model that is there already is replaced, and what else lies there is left alone
        family: "sd1", "sd2" or "sdxl"
        parts: as for `original_tensors`
        configs: the configuration of each part in diffusers' words, and of the "scheduler" if the model has one
        dtype: of all tensors in the files; None leaves each its own
    """
    unfinished = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _fill_folder(unfinished, family, parts, configs, dtype)
        if folder.is_dir():
            _replace_model(folder, unfinished)
        else:
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _replace_model(folder: Path, new: Path) -> None:
    """Puts a model in the place of one that is there; by names alone, and its index, which says what it is, last."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    gone.mkdir()
    for name in (MODEL_INDEX, *MODEL_FOLDERS):
        if (folder / name).exists():
            (folder / name).rename(gone / name)
    for path in sorted(new.iterdir(), key=lambda each: each.name == MODEL_INDEX):
        path.replace(folder / path.name)
    shutil.rmtree(gone, ignore_errors=True)


def _fill_folder(
    folder: Path, family: str, parts: Parts, configs: Mapping[str, Mapping[str, Any]], dtype: torch.dtype | None
) -> None:
    """Writes everything of the folder, which is new."""
    pipeline, encoders = CLASSES[family]
    scheduler = _scheduler(configs.get("scheduler") or usual_config(family, "scheduler"))
    index: dict[str, Any] = {"_class_name": pipeline, "scheduler": ["diffusers", scheduler["_class_name"]]}
    for part, tensors in parts.items():
        is_text = part in encoders
        index[part] = ["transformers", encoders[part]] if is_text else ["diffusers", DIFFUSERS[part]]
        # Files keep the prefix `text_model.`, which transformers 5.6 dropped from its module names.
        named = {_file_name(key) if is_text else key: tensor for key, tensor in tensors.items()}
        stream_tensors(folder / part / f"{STEMS[part]}.safetensors", named, dtype, {"format": "pt"})
        _write_json(folder / part / "config.json", configs[part])
        if is_text:
            tokenizer = part.replace("text_encoder", "tokenizer")
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
            _write_tokenizer(folder / tokenizer, pads_with_zero=family == "sd2" or part == "text_encoder_2")
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    if family != "sdxl":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    _write_json(folder / MODEL_INDEX, index)


def _scheduler(config: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler's configuration, of a class that can draw with it: PNDM knows no betas that end in pure noise."""
    kind = config.get("_class_name", "PNDMScheduler")
    if config.get("rescale_betas_zero_snr") and kind == "PNDMScheduler":
        return {**config, "_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}
    return {**config, "_class_name": kind}


def _file_name(key: str) -> str:
    return key if key.startswith("text_projection.") else f"text_model.{key}"


def _fill_up(named: dict[str, Tensor]) -> None:
    """What files of Stable Diffusion 2 hold and nothing reads: a last layer and a projection."""
    number = max(int(key.split(".")[2]) for key in named if key.startswith("transformer.resblocks."))
    last = f"transformer.resblocks.{number}."
    copies = {key: tensor for key, tensor in named.items() if key.startswith(last)}
    named |= {key.replace(last, f"transformer.resblocks.{number + 1}."): each.clone() for key, each in copies.items()}
    named.setdefault("text_projection", torch.eye(len(named["ln_final.weight"])))


def _write_tokenizer(folder: Path, pads_with_zero: bool) -> None:
    """The tokenizer of all families; OpenCLIP's fills up with the token 0, an exclamation mark."""
    for file in sorted((FILES / "sd1" / "tokenizer").iterdir()):
        text = file.read_text(encoding="utf-8")
        if pads_with_zero and file.name in ("tokenizer_config.json", "special_tokens_map.json"):
            text = re.sub(r'("pad_token":\s*)"[^"]*"', r'\1"!"', text)
        _write_text(folder / file.name, text)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(dict(content), indent=2, default=str) + "\n")


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
