"""How whole models become files."""

import pytest
import torch

from library.adapters.metadata import TrainingFacts
from library.models.family import open_family
from library.settings import read_settings
from library.train.model import build_model
from library.train.model_result import ModelResult
from library.weights import read_header
from tests.runs import WHOLE


@pytest.fixture
def written(bench, family, compute, tmp_path):
    """Writes the model of a run after all its UNet's weights were moved; returns the run's model and the path."""

    def _written(target: str = "m.safetensors", **changes):
        settings = read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth")
        model = build_model(settings, family, compute, 4, ["a"])
        assert isinstance(model.result, ModelResult) and model.result.kind == "model"
        with torch.no_grad():
            for parameter in model.learner.parameters:
                parameter.mul_(1.5)
        facts = TrainingFacts("toy", "base", prediction_type=family.prediction_type, settings={"learning_rate": 0.001})
        model.result.write(tmp_path / target, facts)
        return model, tmp_path / target

    return _written


@pytest.mark.parametrize("target", ["m.safetensors", "m"])
def test_trained_and_frozen_parts(written, family, target: str) -> None:
    model, path = written(target)
    again = open_family(str(path))
    tensors = model.learner.learned.tensors()["unet"]
    found = again.part_tensors("unet")
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    for part in ("vae", "text_encoder"):
        base, found = family.part_tensors(part), again.part_tensors(part)
        assert all(torch.equal(found[key], base[key]) for key in base)


def test_a_trained_text_encoder(written, family) -> None:
    _, path = written(train_text_encoder=True, unet_lr=0)
    found, base = open_family(str(path)), family
    key = "encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(found.part_tensors("text_encoder")[key], base.part_tensors("text_encoder")[key] * 1.5)
    key = "conv_in.weight"
    assert torch.equal(found.part_tensors("unet")[key], base.part_tensors("unet")[key])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "F32"),
        ({"save_precision": "fp16"}, "F16"),
        ({"full_bf16": True, "mixed_precision": "bf16"}, "BF16"),
        ({"full_bf16": True, "mixed_precision": "bf16", "save_precision": "fp32"}, "F32"),
    ],
)
def test_the_number_format(written, changes: dict, kind: str) -> None:
    _, path = written(**changes)
    assert {each for each, _ in read_header(path)[1].values()} == {kind}


def test_metadata_of_a_model(written) -> None:
    _, path = written()
    metadata, _ = read_header(path)
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1"
    assert metadata["ss_learning_rate"] == "0.001" and metadata["ss_base_model_version"] == "sd_v1"
    assert not [key for key in metadata if "network" in key]
