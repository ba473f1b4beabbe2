"""How what was learned becomes a file."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from library.adapters.metadata import TrainingFacts, save_adapter, training_metadata
from library.adapters.network import Network
from library.lookup import ADAPTERS, resolve
from library.settings import Settings
from library.settings.network_args import told_arguments

SAVE_DTYPES = {None: torch.float32, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
METADATA_BYTES = 50_000


class Result(Protocol):
    """What a run makes; `kind` is what messages call it, such as "LoRA"."""

    kind: str

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


def size_of(settings: Settings, tensors: Iterable[Tensor]) -> int:
    """Bytes of a file of these tensors, with metadata of usual length."""
    return METADATA_BYTES + sum(each.numel() for each in tensors) * SAVE_DTYPES[settings.save_precision].itemsize
