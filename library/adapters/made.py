"""LoRA files that were made from models or from other LoRAs: what they say of themselves, and how they are written."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from library.adapters.keys import LoraWeights, to_kohya
from library.adapters.metadata import TrainingFacts, save_adapter, training_metadata

# What is true of a file that was not trained, beside what `no_metadata` leaves: where it comes from.
TOLD = ("ss_output_name", "ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash")
HASHES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def made_metadata(facts: TrainingFacts, how: str) -> dict[str, str]:
    """The entries of a file that no training made: those that a UI needs, and in a sentence how it came to be."""
    whole, needed = (training_metadata(replace(facts, no_metadata=short)) for short in (False, True))
    origin = {key: whole[key] for key in TOLD if key in whole}
    return needed | origin | {"ss_training_comment": how, "modelspec.description": how}


def changed_metadata(metadata: Mapping[str, str], layers: Mapping[str, LoraWeights], name: str) -> dict[str, str]:
    """A file's own entries after its ranks were changed, under a new `name`; hashes are written with the file."""
    ranks = {layer.rank for layer in layers.values()}
    told = {
        "ss_network_dim": str(max(ranks)) if len(ranks) == 1 else "Dynamic",
        "ss_network_alpha": str(common_alpha(layers)),
        "ss_output_name": name,
    }
    kept = {key: value for key, value in metadata.items() if key not in (*HASHES, "ss_network_args")}
    return kept | told | {"modelspec.title": name}


def common_alpha(layers: Mapping[str, LoraWeights]) -> float:
    """The one alpha that a file of these layers is written with: the highest rank."""
    return float(max(layer.rank for layer in layers.values()))


def save_layers(path: Path, layers: Mapping[str, LoraWeights], metadata: Mapping[str, str], dtype: torch.dtype) -> None:
    """Writes layers in kohya's layout with one alpha, the highest rank, and reads the file back."""
    single = {stem: LoraWeights(layer.down.float(), layer.up.float(), layer.alpha) for stem, layer in layers.items()}
    save_adapter(path, to_kohya(single, common_alpha(layers)), metadata, dtype)


def common_format(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The number format that most of a file's numbers have; float32 for those that are not written here."""
    counts: Counter[torch.dtype] = Counter()
    for tensor in tensors.values():
        counts[tensor.dtype] += tensor.numel()
    [(found, _)] = counts.most_common(1)
    return found if found in PRECISIONS.values() else torch.float32
