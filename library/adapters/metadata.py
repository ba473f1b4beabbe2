"""What a LoRA file tells about itself: kohya's ss_* entries, Stability AI's modelspec, and hashes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from library.adapters.keys import parse_adapter, to_diffusers
from library.weights import load_tensors, read_header, save_tensors, tensors_legacy_hash, tensors_sha256

# Settings that sd-scripts writes down under their own names.
RECORDED = (
    "learning_rate",
    "text_encoder_lr",
    "unet_lr",
    "gradient_checkpointing",
    "gradient_accumulation_steps",
    "max_train_steps",
    "lr_scheduler",
    "mixed_precision",
    "clip_skip",
    "max_token_length",
    "cache_latents",
    "seed",
    "noise_offset",
    "training_comment",
    "max_grad_norm",
    "caption_dropout_rate",
    "caption_dropout_every_n_epochs",
    "caption_tag_dropout_rate",
    "prior_loss_weight",
    "min_snr_gamma",
    "validation_split",
    "validate_every_n_steps",
    "validate_every_n_epochs",
    "flip_aug",
    "color_aug",
    "random_crop",
    "face_crop_aug_range",
    "resize_interpolation",
    "shuffle_caption",
    "enable_bucket",
    "bucket_no_upscale",
    "min_bucket_reso",
    "max_bucket_reso",
    "keep_tokens",
)

# The same of the training of whole models, and what is said of networks alone.
RECORDED_OF_MODELS = (
    "train_text_encoder",
    "learning_rate_te",
    "stop_text_encoder_training",
    "full_bf16",
    "ema",
)
RECORDED_WHERE_SET = ("learning_rate_te1", "learning_rate_te2")
OF_NETWORKS = ("text_encoder_lr", "scale_weight_norms")

# What sd-scripts also writes and this trainer never does, with the value that says so.
NEVER = {
    "full_fp16": False,
    "lowram": False,
    "multires_noise_iterations": None,
    "multires_noise_discount": 0.3,
    "adaptive_noise_scale": None,
    "scale_weight_norms": None,
    "ip_noise_gamma": None,
    "debiased_estimation": False,
    "noise_offset_random_strength": False,
    "ip_noise_gamma_random_strength": False,
    "loss_type": "l2",
    "huber_schedule": "snr",
    "huber_scale": 1.0,
    "huber_c": 0.1,
    "fp8_base": False,
    "fp8_base_unet": False,
}

# modelspec entries that come from a setting metadata_<name> of sd-scripts.
DESCRIBED = ("author", "description", "license", "tags", "usage_hint", "trigger_phrase")

# What stays of the ss_* entries with `no_metadata`, as in sd-scripts: what a UI needs to load the file.
NEEDED = (
    "ss_v2",
    "ss_base_model_version",
    "ss_network_module",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_network_args",
)
NEEDED_OF_MODELS = ("ss_v2", "ss_base_model_version")


@dataclass(frozen=True)
class TrainingFacts:
    """What there is to tell about a run when a file of it is written.

    Times are in seconds since 1970; counts of pictures include their repeats, as in sd-scripts. The folders'
    names are shortened to their last part, so that no file tells where its maker's home is.
    """

    # The model and the adapter.
    output_name: str
    base_name: str
    base_model_version: str = "sd_v1"
    architecture: str = "stable-diffusion-v1"
    prediction_type: str = "epsilon"
    zero_terminal_snr: bool = False
    resolution: tuple[int, int] = (512, 512)
    base_hashes: Mapping[str, str] = field(default_factory=dict)
    vae_name: str | None = None
    network_module: str | None = "networks.lora"  # None where whole models are trained
    network_dim: int | None = None
    network_alpha: float = 1.0
    network_dropout: float | None = None
    network_args: Mapping[str, Any] = field(default_factory=dict)
    # How far the run is, of how long.
    started_at: float = 0.0
    finished_at: float = 0.0
    epochs: int = 0
    epoch: int = 0
    steps: int = 0
    warmup_steps: int = 0
    session_id: int = 0
    optimizer: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)
    # The pictures.
    pictures: int = 0
    reg_pictures: int = 0
    validation_pictures: int = 0
    batches_per_epoch: int = 0
    batch_size: int = 1
    total_batch_size: int = 1
    dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    reg_dataset_dirs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    bucket_counts: Mapping[tuple[int, int], int] = field(default_factory=dict)
    tag_frequency: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    datasets: Sequence[Mapping[str, Any]] = ()
    # The settings by their names; those in RECORDED are written down, and metadata_title, metadata_author ...
    settings: Mapping[str, Any] = field(default_factory=dict)
    # Leave out everything about the training, as the setting of that name asks.
    no_metadata: bool = False


def training_metadata(facts: TrainingFacts) -> dict[str, str]:
    """The entries of a file's header, all of them strings; `save_adapter` adds the hashes."""
    entries = _model_entries(facts) | _run_entries(facts) | _data_entries(facts)
    entries |= {key: facts.settings.get(key) for key in RECORDED} | NEVER
    entries |= {key: facts.settings[key] for key in RECORDED_WHERE_SET if facts.settings.get(key) is not None}
    if not facts.network_module:
        entries |= {key: facts.settings.get(key) for key in RECORDED_OF_MODELS}
        entries = {key: value for key, value in entries.items() if key not in OF_NETWORKS}
    written = {f"ss_{key}": _written(value) for key, value in sorted(entries.items())}
    if facts.losses:
        written["easel_losses"] = json.dumps(dict(facts.losses))
    if facts.no_metadata:
        needed = NEEDED if facts.network_module else NEEDED_OF_MODELS
        written = {key: value for key, value in written.items() if key in needed}
    return written | _model_spec(facts)


def save_adapter(
    path: Path,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    dtype: torch.dtype | None = None,
    layout: str = "safetensors",
) -> None:
    """Writes an adapter with its metadata and the hashes of both, then reads the file back and compares it.

    Args:
        state: the tensors by kohya's names, as `Network.state_dict` gives them
        dtype: the number format of the file, for every tensor; None is float32
        layout: "safetensors" is kohya's, which every UI loads; "diffusers" that of diffusers and PEFT

    Raises RuntimeError if what is in the file is not what is in memory.
    """
    if layout == "diffusers":
        state = to_diffusers(parse_adapter(state, {}, str(path)))
    tensors = {key: tensor.detach().to("cpu", dtype or torch.float32) for key, tensor in state.items()}
    digest = tensors_sha256(tensors)
    described = {
        **metadata,
        "sshs_model_hash": digest,
        "sshs_legacy_hash": tensors_legacy_hash(tensors, metadata),
        "modelspec.hash_sha256": f"0x{digest}",
    }
    save_tensors(path, tensors, described)
    written, read = load_tensors(path), read_header(path)[0]
    wrong = [key for key in tensors.keys() | written.keys() if not _same(tensors.get(key), written.get(key))]
    if wrong or read != described:
        raise RuntimeError(
            f"{path} was not written rightly: {wrong[:1] or 'its metadata'} differs from memory."
        )


def _model_entries(facts: TrainingFacts) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "output_name": facts.output_name,
        "sd_model_name": facts.base_name,
        "base_model_version": facts.base_model_version,
        "v2": facts.base_model_version.startswith("sd_v2"),
        "zero_terminal_snr": facts.zero_terminal_snr,
    }
    if facts.network_module:
        entries |= _network_entries(facts)
    if facts.vae_name:
        entries["vae_name"] = facts.vae_name
    return entries | {key.removeprefix("ss_"): value for key, value in facts.base_hashes.items()}


def _network_entries(facts: TrainingFacts) -> dict[str, Any]:
    entries: dict[str, Any] = {
        "network_module": facts.network_module,
        # A network with a rank for each layer has no one rank; sd-scripts then says so.
        "network_dim": "Dynamic" if facts.network_dim is None else facts.network_dim,
        "network_alpha": facts.network_alpha,
        "network_dropout": facts.network_dropout,
    }
    return entries | ({"network_args": dict(facts.network_args)} if facts.network_args else {})


def _run_entries(facts: TrainingFacts) -> dict[str, Any]:
    return {
        "session_id": facts.session_id,
        "training_started_at": facts.started_at,
        "training_finished_at": facts.finished_at,
        "num_epochs": facts.epochs,
        "epoch": facts.epoch,
        "steps": facts.steps,
        "lr_warmup_steps": facts.warmup_steps,
        "optimizer": facts.optimizer,
    }


def _data_entries(facts: TrainingFacts) -> dict[str, Any]:
    buckets = enumerate(sorted(facts.bucket_counts.items()))
    described = {number: {"resolution": list(size), "count": count} for number, (size, count) in buckets}
    entries: dict[str, Any] = {
        "num_train_images": facts.pictures,
        "num_reg_images": facts.reg_pictures,
        "num_validation_images": facts.validation_pictures,
        "num_batches_per_epoch": facts.batches_per_epoch,
        "batch_size_per_device": facts.batch_size,
        "total_batch_size": facts.total_batch_size,
        "resolution": f"({facts.resolution[0]}, {facts.resolution[1]})",
        "bucket_info": {"buckets": described},
        "dataset_dirs": _by_last_part(facts.dataset_dirs),
        "reg_dataset_dirs": _by_last_part(facts.reg_dataset_dirs),
        "tag_frequency": _by_last_part(facts.tag_frequency),
    }
    if facts.datasets:
        entries["datasets"] = [dict(each) for each in facts.datasets]
    return entries


def _model_spec(facts: TrainingFacts) -> dict[str, str]:
    """The entries of Stability AI's model metadata standard, version 1.0.0."""
    title = str(facts.settings.get("metadata_title") or facts.output_name)
    written = datetime.fromtimestamp(facts.finished_at).replace(microsecond=0)
    spec = {
        "sai_model_spec": "1.0.0",
        "architecture": f"{facts.architecture}/lora" if facts.network_module else facts.architecture,
        "implementation": "diffusers",
        "title": title,
        "resolution": f"{facts.resolution[0]}x{facts.resolution[1]}",
        "date": written.isoformat(),
        "prediction_type": {"v_prediction": "v"}.get(facts.prediction_type, facts.prediction_type),
    }
    for name in DESCRIBED:
        if facts.settings.get(f"metadata_{name}"):
            spec[name] = str(facts.settings[f"metadata_{name}"])
    if facts.settings.get("clip_skip"):
        spec["encoder_layer"] = str(facts.settings["clip_skip"])
    return {f"modelspec.{key}": value for key, value in spec.items()}


def _written(value: Any) -> str:
    """sd-scripts' way: JSON for what has parts, Python's words for the rest."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _by_last_part(folders: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The same by the folders' own names; counts of folders that share one name are added up."""
    named: dict[str, dict[str, int]] = {}
    for folder, counts in folders.items():
        entry = named.setdefault(Path(folder).name or str(folder), {})
        for key, count in counts.items():
            entry[key] = count if key == "n_repeats" else entry.get(key, 0) + count
    return named


def _same(mine: Tensor | None, theirs: Tensor | None) -> bool:
    return (
        mine is not None
        and theirs is not None
        and mine.dtype == theirs.dtype
        and torch.equal(_bits(mine), _bits(theirs))
    )


def _bits(tensor: Tensor) -> Tensor:
    """The tensor's bytes, in which a number that is none equals itself."""
    return tensor.contiguous().flatten().view(torch.uint8)
