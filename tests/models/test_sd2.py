"""Stable Diffusion 2: recognised, read from folder and file alike, as diffusers reads it."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from library.models.family import open_family
from library.models.original import UNET
from library.weights import load_tensors, read_header, save_tensors
from tests.toy_families import write_toy, write_toy_file
from tests.toys import aligned


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("sd2") / "model", "sd2")


def test_it_is_recognised_and_named(folder: Path, tmp_path: Path) -> None:
    family = open_family(str(folder))
    assert (family.name, family.base_model_version, family.architecture) == ("sd2", "sd_v2", "stable-diffusion-v2-512")
    predicts_v = open_family(str(write_toy(tmp_path / "v", "sd2", "v_prediction")))
    assert predicts_v.base_model_version == "sd_v2_v"
    assert predicts_v.architecture == "stable-diffusion-v2-768-v"
    assert predicts_v.prediction_type == "v_prediction"
    family.prediction_type = "v_prediction"  # as a setting may say of a file that says nothing
    assert (family.base_model_version, family.architecture) == ("sd_v2_v", "stable-diffusion-v2-768-v")


def test_layers_of_adapters(folder: Path) -> None:
    family = open_family(str(folder))
    unet, encoder = family.load_unet(torch.float32), family.load_text_encoders(torch.float32)[0]
    layers = family.adapter_layers(unet, "unet")
    assert len(layers) == 192
    assert layers["mid_block.attentions.0.proj_in"] == "lora_unet_mid_block_attentions_0_proj_in"
    assert len(family.adapter_layers(encoder, "text_encoder")) == 3 * 6


def test_captions_are_read_as_diffusers_reads_them(folder: Path) -> None:
    family, pipeline = open_family(str(folder)), StableDiffusionPipeline.from_pretrained(folder)
    tokens = family.tokenize(["a dog"], 75)
    aligned(pipeline.text_encoder)
    [(ids, _)] = tokens
    assert ids[0, 0, -1] == 0 and (ids == 49407).sum() == 1
    condition = family.encode_text(family.load_text_encoders(torch.float32), tokens)
    expected, _ = pipeline.encode_prompt("a dog", "cpu", 1, False)
    assert torch.equal(condition.hidden, expected)


def test_file_and_folder_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    path = write_toy_file(tmp_path / "model.safetensors", "sd2")
    keys = load_tensors(path).keys()
    assert sum(key.startswith("cond_stage_model.model.") for key in keys) == 4 * 12 + 6
    one, other = open_family(str(folder)), open_family(str(path))
    assert [one.fingerprint(part) for part in ("unet", "vae", "text_encoder")] == [
        other.fingerprint(part) for part in ("unet", "vae", "text_encoder")
    ]
    states = [family.load_text_encoders(torch.float32)[0].state_dict() for family in (one, other)]
    assert states[0].keys() == states[1].keys()


@pytest.mark.parametrize(("spread", "prediction_type"), [(0.2, "v_prediction"), (0.05, "epsilon")])
def test_a_file_that_says_nothing_is_told_by_its_bias(tmp_path: Path, spread: float, prediction_type: str) -> None:
    path = write_toy_file(tmp_path / "model.safetensors", "sd2")
    tensors = load_tensors(path)
    name = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
    tensors[name] = torch.linspace(-1, 1, len(tensors[name])) * spread * 1.7
    structure = {"easel.structure": '{"unet_heads": 4, "unet_groups": 8, "vae_groups": 4, "text_heads": 4}'}
    save_tensors(path, tensors, structure)
    assert open_family(str(path)).prediction_type == prediction_type


def test_files_without_the_unused_layer_are_read_too(folder: Path, tmp_path: Path) -> None:
    path = write_toy_file(tmp_path / "model.safetensors", "sd2")
    tensors = load_tensors(path)
    last = "cond_stage_model.model.transformer.resblocks.3."
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith(last)}
    assert len(tensors) - len(kept) == 12
    save_tensors(path, kept, read_header(path)[0])
    assert open_family(str(path)).fingerprint("text_encoder") == open_family(str(folder)).fingerprint("text_encoder")
