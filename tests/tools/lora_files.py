"""Toy models and LoRAs on disk for the tests of the programs around finished files."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from library.adapters.keys import LoraWeights
from library.adapters.made import made_metadata, save_layers
from library.adapters.metadata import TrainingFacts
from library.models.family import open_family
from library.models.stems import parts_of, usual_stems


def write_lora(path: Path, model: Path, rank: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """A LoRA of random values for every layer of a toy that is trained as a rule."""
    family, source, layers = open_family(str(model)), torch.Generator().manual_seed(seed), {}
    for part in parts_of(family):
        weights = family.part_tensors(part)
        for stem, name in usual_stems(family, part, weights, convolutions=False).items():
            outputs, inputs, *rest = weights[name].shape
            up = 0.1 * torch.randn(outputs, rank, *[1 for _ in rest], generator=source)
            layers[stem] = LoraWeights(0.1 * torch.randn(rank, inputs, *rest, generator=source), up, float(rank))
    kind = {"base_model_version": family.base_model_version, "architecture": family.architecture}
    facts = TrainingFacts(path.stem, "toy", **kind, network_dim=rank)
    save_layers(path, layers, made_metadata(facts, "drawn"), dtype)
    return path


def run(monkeypatch: pytest.MonkeyPatch, program: ModuleType, *words: object) -> int:
    """The exit status of a program's main with these words."""
    monkeypatch.setattr(sys, "argv", [str(program.__file__), *map(str, words)])
    return program.main()
