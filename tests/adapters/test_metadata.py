"""The header of a LoRA file: complete, readable by UIs, its hashes true; and the file read back."""

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from library.adapters import metadata as metadata_module
from library.adapters.metadata import TrainingFacts, save_adapter, training_metadata
from library.weights import load_tensors, read_header

FACTS = TrainingFacts(
    output_name="creature",
    base_name="toy.safetensors",
    resolution=(512, 768),
    base_hashes={"ss_sd_model_hash": "0123abcd", "ss_new_sd_model_hash": "f" * 64},
    network_dim=16,
    network_alpha=8.0,
    started_at=1700000000.25,
    finished_at=1700000100.5,
    epochs=10,
    epoch=4,
    steps=120,
    session_id=77,
    optimizer="torch.optim.adamw.AdamW(weight_decay=0.01)",
    losses={"average": 0.125},
    pictures=150,
    batches_per_epoch=75,
    batch_size=2,
    total_batch_size=2,
    dataset_dirs={"/home/someone/pictures/10_sks creature": {"n_repeats": 10, "img_count": 15}},
    bucket_counts={(512, 768): 100, (512, 512): 50},
    tag_frequency={"/home/someone/pictures/10_sks creature": {"sks creature": 15, "hat": 3}},
    settings={"learning_rate": 1e-4, "clip_skip": 2, "seed": 42, "metadata_author": "me", "unet_lr": None},
)

# Everything that sd-scripts always writes; reference: its train_network.py of 2025.
ALWAYS = """session_id training_started_at training_finished_at output_name learning_rate text_encoder_lr
unet_lr num_train_images num_validation_images num_reg_images num_batches_per_epoch num_epochs epoch steps
gradient_checkpointing gradient_accumulation_steps max_train_steps lr_warmup_steps lr_scheduler network_module
network_dim network_alpha network_dropout mixed_precision full_fp16 v2 base_model_version clip_skip
max_token_length cache_latents seed lowram noise_offset multires_noise_iterations multires_noise_discount
adaptive_noise_scale zero_terminal_snr training_comment optimizer max_grad_norm caption_dropout_rate
caption_dropout_every_n_epochs caption_tag_dropout_rate face_crop_aug_range prior_loss_weight min_snr_gamma
scale_weight_norms ip_noise_gamma debiased_estimation noise_offset_random_strength
ip_noise_gamma_random_strength loss_type huber_schedule huber_scale huber_c fp8_base fp8_base_unet
validation_split validate_every_n_epochs validate_every_n_steps sd_model_name sd_model_hash new_sd_model_hash
batch_size_per_device total_batch_size resolution color_aug flip_aug random_crop shuffle_caption enable_bucket
bucket_no_upscale min_bucket_reso max_bucket_reso keep_tokens dataset_dirs reg_dataset_dirs tag_frequency
bucket_info"""

STATE = {
    "lora_unet_a.lora_down.weight": torch.randn(4, 300, generator=torch.Generator().manual_seed(0)),
    "lora_unet_a.lora_up.weight": torch.randn(1200, 4, generator=torch.Generator().manual_seed(1)),
    "lora_unet_a.alpha": torch.tensor(2.0),
}


def test_every_entry_of_sd_scripts_is_there_as_a_string() -> None:
    metadata = training_metadata(FACTS)
    assert not {f"ss_{name}" for name in ALWAYS.split()} - metadata.keys()
    assert {type(value) for value in metadata.values()} == {str}
    expected = {
        "ss_steps": "120",
        "ss_unet_lr": "None",
        "ss_learning_rate": "0.0001",
        "ss_v2": "False",
        "ss_resolution": "(512, 768)",
        "ss_network_module": "networks.lora",
        "ss_full_fp16": "False",
    }
    assert {key: metadata[key] for key in expected} == expected


def test_a_web_ui_reads_it(tmp_path: Path) -> None:
    """As AUTOMATIC1111 does: values that begin with a brace are JSON, times are numbers, SD1 is not SDXL."""
    save_adapter(tmp_path / "a.safetensors", STATE, training_metadata(FACTS))
    with open(tmp_path / "a.safetensors", "rb") as file:
        assert file.read(10)[8:] == b'{"'
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        raw = file.metadata()
    read = {key: json.loads(value) if value.startswith("{") else value for key, value in raw.items()}
    assert read["ss_output_name"] == "creature"
    assert float(read["ss_training_started_at"]) == FACTS.started_at
    assert not read["ss_base_model_version"].startswith("sdxl_") and read["ss_v2"] != "True"
    assert read["ss_dataset_dirs"] == {"10_sks creature": {"n_repeats": 10, "img_count": 15}}
    assert read["ss_tag_frequency"] == {"10_sks creature": {"sks creature": 15, "hat": 3}}
    buckets = read["ss_bucket_info"]["buckets"]
    assert buckets["1"] == {"resolution": [512, 768], "count": 100} and len(buckets) == 2
    assert "someone" not in str(raw)


def test_the_model_spec_is_complete() -> None:
    spec = {key: value for key, value in training_metadata(FACTS).items() if key.startswith("modelspec.")}
    expected = {
        "sai_model_spec": "1.0.0",
        "architecture": "stable-diffusion-v1/lora",
        "implementation": "diffusers",
        "title": "creature",
        "resolution": "512x768",
        "prediction_type": "epsilon",
        "author": "me",
        "encoder_layer": "2",
    }
    assert {key: spec[f"modelspec.{key}"] for key in expected} == expected
    assert len(spec["modelspec.date"]) == len("2023-11-14T22:15:00")
    assert spec.keys() == {f"modelspec.{key}" for key in expected} | {"modelspec.date"}


def test_no_metadata_leaves_what_a_ui_needs() -> None:
    metadata = training_metadata(replace(FACTS, no_metadata=True))
    kept = {key for key in metadata if not key.startswith("modelspec.")}
    needed = {"v2", "base_model_version", "network_module", "network_dim", "network_alpha"}
    assert kept == {f"ss_{key}" for key in needed}


def test_folders_of_one_name_are_counted_together() -> None:
    counts = {"n_repeats": 2, "img_count": 5}
    facts = replace(FACTS, dataset_dirs={"/a/pictures": counts, "/b/pictures": counts})
    assert json.loads(training_metadata(facts)["ss_dataset_dirs"]) == {
        "pictures": {"n_repeats": 2, "img_count": 10}
    }


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_the_hashes_are_kohyas(tmp_path: Path, dtype: torch.dtype | None) -> None:
    path = tmp_path / "new" / "a.safetensors"
    metadata = training_metadata(FACTS)
    large = STATE | {"lora_unet_a.lora_up.weight": torch.randn(300000, 4)}
    save_adapter(path, large, metadata, dtype)
    read, tensors = read_header(path)[0], load_tensors(path)
    assert {tensor.dtype for tensor in tensors.values()} == {dtype or torch.float32}
    content = path.read_bytes()
    digest = hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    assert read["sshs_model_hash"] == digest
    assert read["modelspec.hash_sha256"] == f"0x{digest}"
    only_ss = save(tensors, {key: value for key, value in metadata.items() if key.startswith("ss_")})
    assert read["sshs_legacy_hash"] == hashlib.sha256(only_ss[0x100000:0x110000]).hexdigest()[:8]
    assert {key: read[key] for key in metadata} == metadata


def test_a_file_that_differs_from_memory_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(path: Path) -> dict[str, torch.Tensor]:
        tensors = load_tensors(path)
        tensors["lora_unet_a.lora_up.weight"][5, 2] += 1
        return tensors

    monkeypatch.setattr(metadata_module, "load_tensors", damaged)
    with pytest.raises(RuntimeError, match="lora_unet_a.lora_up.weight"):
        save_adapter(tmp_path / "a.safetensors", STATE, {})


def test_a_file_of_numbers_that_are_none_is_told_as_it_is(tmp_path: Path) -> None:
    """Reading back compares bits: a NaN in memory and in the file is no writing error."""
    broken = STATE | {"lora_unet_a.lora_up.weight": torch.full((1200, 4), math.nan)}
    save_adapter(tmp_path / "a.safetensors", broken, {})
    assert load_tensors(tmp_path / "a.safetensors")["lora_unet_a.lora_up.weight"].isnan().all()
