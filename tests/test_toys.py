"""The toys are what they stand for: diffusers opens folder and single file, and finds the same weights."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open

from tests import toys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_toy_sd1(tmp_path_factory.mktemp("toy") / "model")


def names(path: Path) -> set[str]:
    """The names of a file's tensors."""
    with safe_open(path, "pt") as file:
        return set(file.keys())


def test_the_folder_has_the_names_of_sd_1_5(folder: Path) -> None:
    assert len(names(folder / "unet" / "diffusion_pytorch_model.safetensors")) == 686
    assert len(names(folder / "vae" / "diffusion_pytorch_model.safetensors")) == 248
    text = names(folder / "text_encoder" / "model.safetensors")
    assert all(name.startswith("text_model.") for name in text)
    assert len(text) == 2 * 16 + 4


def test_the_single_file_has_the_names_of_sd_1_5(folder: Path, tmp_path: Path) -> None:
    found = names(toys.write_single_file(folder, tmp_path / "a.safetensors"))
    assert len(found) == 686 + 248 + 36
    assert found >= {
        "model.diffusion_model.time_embed.0.weight",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_out.0.bias",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "model.diffusion_model.middle_block.2.out_layers.3.weight",
        "model.diffusion_model.output_blocks.2.1.conv.weight",
        "model.diffusion_model.output_blocks.5.2.conv.weight",
        "model.diffusion_model.output_blocks.11.0.emb_layers.1.weight",
        "model.diffusion_model.out.2.bias",
        "first_stage_model.encoder.down.0.downsample.conv.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "first_stage_model.decoder.mid.attn_1.proj_out.weight",
        "first_stage_model.encoder.down.1.block.0.nin_shortcut.weight",
        "first_stage_model.quant_conv.weight",
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    }


@pytest.mark.parametrize(("kind", "part"), [(UNet2DConditionModel, "unet"), (AutoencoderKL, "vae")])
def test_diffusers_reads_folder_and_file_alike(folder: Path, tmp_path: Path, kind, part: str) -> None:
    path = toys.write_single_file(folder, tmp_path / "a.safetensors")
    ours = kind.from_pretrained(folder / part).state_dict()
    single = kind.from_single_file(str(path), config=str(folder), subfolder=part).state_dict()
    assert single.keys() == ours.keys()
    assert all(torch.equal(single[key], ours[key]) for key in ours)


def test_the_same_arguments_make_the_same_weights(folder: Path, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    again = toys.write_toy_sd1(tmp_path / "again")
    other = toys.write_toy_sd1(tmp_path / "other", seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, third = (toys.original_tensors(path) for path in (folder, again, other))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not all(torch.equal(first[key], third[key]) for key in first)


def test_arguments_show_in_the_files(tmp_path: Path) -> None:
    folder = toys.write_toy_sd1(
        tmp_path, text_layers=3, prediction_type="v_prediction", in_channels=9, dtype=torch.float16
    )
    assert (
        json.loads((folder / "scheduler/scheduler_config.json").read_text())["prediction_type"]
        == "v_prediction"
    )
    assert json.loads((folder / "unet/config.json").read_text())["in_channels"] == 9
    assert json.loads((folder / "text_encoder/config.json").read_text())["num_hidden_layers"] == 3
    assert {tensor.dtype for tensor in toys.original_tensors(folder).values()} == {torch.float16}
