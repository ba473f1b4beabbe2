"""How adapters become a file."""

import pytest
import torch

from library.adapters.hypernetwork import networks_of
from library.adapters.hypernetwork_files import read_hypernetwork
from library.adapters.metadata import TrainingFacts
from library.settings.network_args import told_arguments
from library.train.model import build_model
from library.train.results import AdapterResult, HypernetworkResult
from library.weights import load_tensors, read_header


@pytest.fixture
def written(settings_of, family, compute, tmp_path):
    """Writes the adapters of a run with some settings; returns the file, its metadata and the adapters' own tensors."""

    def _written(**changes):
        model = build_model(settings_of(**changes), family, compute, 4, ["a"])
        assert isinstance(model.result, AdapterResult) and model.result.kind == "LoRA"
        model.result.write(tmp_path / "a.safetensors", TrainingFacts("toy", "base"))
        metadata, _ = read_header(tmp_path / "a.safetensors")
        return load_tensors(tmp_path / "a.safetensors"), metadata, model.learner.learned.state_dict()

    return _written


def test_what_was_learned_is_written(written) -> None:
    tensors, metadata, own = written(network_dim=3, network_alpha=1.5, network_dropout=0.25)
    assert tensors.keys() == own.keys() and all(torch.equal(tensors[key], own[key]) for key in own)
    told = {key: metadata[f"ss_network_{key}"] for key in ("module", "dim", "alpha", "dropout")}
    assert told == {"module": "networks.lora", "dim": "3", "alpha": "1.5", "dropout": "0.25"}
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision(written, precision: str, dtype: torch.dtype) -> None:
    tensors, _, own = written(save_precision=precision)
    assert all(torch.equal(tensors[key], own[key].to(dtype)) for key in own)


def test_the_layout_of_diffusers(written) -> None:
    tensors, _, own = written(save_model_as="diffusers", network_train_unet_only=True)
    assert len(tensors) == 2 * 192 and all(key.startswith("unet.") for key in tensors)
    assert not tensors.keys() & own.keys()


def test_arguments(settings_of) -> None:
    told = told_arguments(settings_of(network_args=["conv_dim=4", "loraplus_lr_ratio=16"]))
    assert told == {"conv_dim": "4", "loraplus_lr_ratio": "16"}


def test_a_hypernetwork_is_written_for_its_ui(settings_of, family, compute, tmp_path) -> None:
    settings = settings_of(network_module="hypernetwork", save_precision="fp16")
    model = build_model(settings, family, compute, 4, ["a"])
    assert isinstance(model.result, HypernetworkResult) and model.result.kind == "hypernetwork"
    for each in model.learner.parameters:
        each.data += torch.linspace(-1, 1, each.numel()).reshape(each.shape)
    hashes = {"ss_new_sd_model_hash": "0123456789abcdef"}
    model.result.write(tmp_path / "sks-000002.pt", TrainingFacts("toy", "base", base_hashes=hashes, steps=7))
    found = read_hypernetwork(tmp_path / "sks-000002.pt")
    assert (found.name, found.step, found.checkpoint, found.checkpoint_name) == ("sks-000002", 7, "0123456789", "base")
    assert found.dtype == torch.float16 and sorted(found.pairs) == [16, 24, 32]
    assert found.metadata["ss_network_module"] == "hypernetwork"
    own = {(each.width, reader): each for reader, each in networks_of(model.learner.learned.layers["unet"])}
    for (width, reader), network in own.items():
        theirs = found.pairs[width][("to_k", "to_v").index(reader)]
        for mine, read in zip(network.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine.half().float(), read)
