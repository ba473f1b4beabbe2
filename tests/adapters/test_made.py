"""Files that no training made: entries, one alpha, number formats."""

from pathlib import Path

import pytest
import torch

from library.adapters.keys import LoraWeights, read_adapter
from library.adapters.made import changed_metadata, common_alpha, common_format, made_metadata, save_layers
from library.adapters.metadata import TrainingFacts
from library.weights import load_tensors, read_header

ONE, TWO = "lora_unet_mid_block_attentions_0_proj_in", "lora_te_text_model_encoder_layers_0_mlp_fc1"


def layer(rank: int, alpha: float, dtype: torch.dtype = torch.float32) -> LoraWeights:
    generator = torch.Generator().manual_seed(rank)
    down, up = torch.randn(rank, 6, generator=generator), torch.randn(8, rank, generator=generator)
    return LoraWeights(down.to(dtype), up.to(dtype), alpha)


def test_what_was_not_trained_tells_of_no_training() -> None:
    facts = TrainingFacts("mine", "base", network_dim=4, base_hashes={"ss_sd_model_hash": "0123abcd"})
    metadata = made_metadata(facts, "Made of two.")
    assert metadata["ss_network_dim"] == "4" and metadata["ss_sd_model_hash"] == "0123abcd"
    assert metadata["ss_output_name"] == metadata["modelspec.title"] == "mine"
    assert metadata["ss_training_comment"] == "Made of two."
    assert not {"ss_learning_rate", "ss_steps", "ss_tag_frequency"} & metadata.keys()


def test_a_changed_file_keeps_its_story_and_not_its_ranks() -> None:
    before = {"ss_network_dim": "8", "ss_seed": "3", "sshs_model_hash": "x", "ss_network_args": "{}"}
    after = changed_metadata(before, {ONE: layer(4, 4.0)}, "new")
    assert after["ss_network_dim"] == "4" and after["ss_network_alpha"] == "4.0" and after["ss_seed"] == "3"
    assert "sshs_model_hash" not in after and "ss_network_args" not in after
    assert changed_metadata(before, {ONE: layer(4, 4.0), TWO: layer(2, 2.0)}, "new")["ss_network_dim"] == "Dynamic"


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_one_alpha_and_the_same_changes(tmp_path: Path, dtype: torch.dtype, error: float) -> None:
    layers = {ONE: layer(4, 4.0), TWO: layer(3, 1.0)}
    save_layers(tmp_path / "a.safetensors", layers, {"a": "b"}, dtype)
    tensors = load_tensors(tmp_path / "a.safetensors")
    assert {float(tensor) for key, tensor in tensors.items() if key.endswith("alpha")} == {4.0}
    assert common_alpha(layers) == 4.0
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    for stem, found in read_adapter(tmp_path / "a.safetensors").items():
        assert (found.delta() - layers[stem].delta()).norm() < error * layers[stem].delta().norm()
    assert read_header(tmp_path / "a.safetensors")[0].keys() >= {"a", "sshs_model_hash", "sshs_legacy_hash"}


def test_half_precision_is_multiplied_in_single(tmp_path: Path) -> None:
    layers = {ONE: layer(4, 4.0), TWO: layer(3, 1.0, torch.float16)}
    save_layers(tmp_path / "a.safetensors", layers, {}, torch.float32)
    found = read_adapter(tmp_path / "a.safetensors")[TWO].delta()
    torch.testing.assert_close(found, layers[TWO].delta(), rtol=1e-6, atol=1e-6)


def test_the_format_of_most_numbers() -> None:
    half, single = torch.zeros(5, dtype=torch.float16), torch.zeros(3)
    assert common_format({"a": half, "b": single}) == torch.float16
    assert common_format({"a": half, "b": single, "c": single}) == torch.float32
    assert common_format({"a": torch.zeros(9, dtype=torch.float64)}) == torch.float32
