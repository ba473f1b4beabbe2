"""How a model whose weights were trained becomes a file or a folder."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from library.adapters.metadata import TrainingFacts, training_metadata
from library.models.family import Family
from library.models.saving import save_model
from library.settings import Settings
from library.train.results import SAVE_DTYPES
from library.train.whole import WholeModel


@dataclass(frozen=True)
class ModelResult:
    """A whole model; its VAE and what was frozen are those of the base model."""

    settings: Settings
    family: Family
    whole: WholeModel
    kind: str = "model"

    def write(self, path: Path, facts: TrainingFacts) -> None:
        """Writes the weights of now, as one file or as a folder as the name ends, and reads them back."""
        metadata = training_metadata(replace(facts, network_module=None))
        save_model(path, self.family, self.whole.tensors(), self._dtype(), metadata)

    def size(self) -> int:
        """Bytes of one file, about."""
        numbers = 0
        for part in ("unet", "vae", *self.family.text_parts):
            tensors = self.whole.tensors().get(part) or self.family.part_tensors(part)
            numbers += sum(each.numel() for each in tensors.values())
        return numbers * self._dtype().itemsize

    def _dtype(self) -> torch.dtype:
        return SAVE_DTYPES[self.settings.save_precision or ("bf16" if self.settings.full_bf16 else None)]
