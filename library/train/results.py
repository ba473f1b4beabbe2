"""How what was learned becomes a file."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from library.adapters.hypernetwork import READERS, networks_of
from library.adapters.hypernetwork_files import HypernetworkFile, write_hypernetwork
from library.adapters.metadata import TrainingFacts, save_adapter, training_metadata
from library.adapters.network import Network
from library.lookup import ADAPTERS, HYPERNETWORK, resolve
from library.settings import Settings
from library.settings.network_args import told_arguments

SAVE_DTYPES = {None: torch.float32, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
METADATA_BYTES = 50_000
HASH_DIGITS = 10  # of a base model, in a hypernetwork's file


class Result(Protocol):
    """What a run makes, such as a LoRA."""

    @property
    def kind(self) -> str:
        """What messages call it."""

    def write(self, path: Path, facts: TrainingFacts) -> None:
        """Writes what has been learned so far, whole or not at all, and reads it back."""

    def size(self) -> int:
        """Bytes of one file, about."""


@dataclass(frozen=True)
class AdapterResult:
    """A file of adapters, in the layout of `save_model_as`."""

    settings: Settings
    network: Network
    kind: str = "LoRA"

    def write(self, path: Path, facts: TrainingFacts) -> None:
        """Writes the adapters of now with their metadata, and reads them back."""
        settings = self.settings
        kind = resolve(ADAPTERS[settings.network_module or "lora"])
        facts = replace(
            facts,
            network_module=kind.module,
            network_dim=None if settings.dim_from_weights else settings.network_dim,
            network_alpha=self.network.alpha,
            network_dropout=settings.network_dropout,
            network_args={**kind.told, **told_arguments(settings)},
        )
        dtype, layout = SAVE_DTYPES[settings.save_precision], settings.save_model_as
        save_adapter(path, self.network.export(), training_metadata(facts), dtype, layout)

    def size(self) -> int:
        """Bytes of one file, about."""
        return size_of(self.settings, self.network.state_dict().values())


@dataclass(frozen=True)
class HypernetworkResult:
    """A hypernetwork's file, a .pt because AUTOMATIC1111 and ComfyUI know no other."""

    settings: Settings
    network: Network
    kind: str = "hypernetwork"

    def write(self, path: Path, facts: TrainingFacts) -> None:
        """Writes the networks of now with what the file tells, and reads it back."""
        settings = self.settings
        facts = replace(facts, network_module=HYPERNETWORK, network_args=told_arguments(settings))
        by_place = {(each.width, reader): each for reader, each in networks_of(self.network.layers["unet"])}
        pairs = {width: (by_place[width, READERS[0]], by_place[width, READERS[1]]) for width, _ in by_place}
        digest = facts.base_hashes.get("ss_new_sd_model_hash", "")
        found = HypernetworkFile(
            path.stem,
            next(iter(by_place.values())).form,
            pairs,
            facts.steps,
            digest[:HASH_DIGITS] or None,
            facts.base_name,
            training_metadata(facts),
        )
        write_hypernetwork(path, found, SAVE_DTYPES[settings.save_precision])

    def size(self) -> int:
        """Bytes of one file, about."""
        return size_of(self.settings, self.network.state_dict().values())


def result_of(settings: Settings, network: Network) -> AdapterResult | HypernetworkResult:
    """What a network becomes."""
    is_hypernetwork = settings.network_module == HYPERNETWORK
    return HypernetworkResult(settings, network) if is_hypernetwork else AdapterResult(settings, network)


def size_of(settings: Settings, tensors: Iterable[Tensor]) -> int:
    """Bytes of a file of these tensors, with metadata of usual length."""
    return METADATA_BYTES + sum(each.numel() for each in tensors) * SAVE_DTYPES[settings.save_precision].itemsize
