"""Modules and the places that a model has for them."""

import pytest
import torch

from library.adapters.anatomy import modules_of
from library.adapters.layouts import LAYOUTS, convert
from library.models.family import Family, open_family
from library.models.placing import model_stem, place
from library.models.stems import parts_of, usual_stems
from tests.adapters.foreign_files import named
from tests.toy_families import write_toy

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    folder = tmp_path_factory.mktemp("toys")
    return {name: open_family(str(write_toy(folder / name, name))) for name in FAMILIES}


def file_of(family: Family) -> dict[str, torch.Tensor]:
    tensors = {}
    for part in parts_of(family):
        weights = family.part_tensors(part)
        for stem, name in usual_stems(family, part, weights, convolutions=True).items():
            outputs, inputs, *rest = weights[name].shape
            up = torch.ones(outputs, 2, *[1 for _ in rest])
            tensors |= named(stem, {"lora_down.weight": torch.ones(2, inputs, *rest), "lora_up.weight": up})
    return tensors


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_is_found_in_every_layout(families, name: str, layout: str) -> None:
    tensors, _ = convert(file_of(families[name]), {}, layout, "x")
    result = place(families[name], modules_of(tensors))
    assert result.fits and result.found == len(tensors) // (2 if layout == "diffusers" else 3) and not result.missing


def test_a_file_of_another_family(families) -> None:
    result = place(families["sd1"], modules_of(file_of(families["sdxl"])))
    assert not result.fits and len(result.unknown) + len(result.wrong) > 100
    other = place(families["sd2"], modules_of(file_of(families["sd1"])))
    assert not other.unknown and "the model's has (" in other.wrong[0]


def test_what_is_missing_and_what_fits_otherwise(families) -> None:
    family = families["sd1"]
    start = "lora_unet_mid_block_attentions_0_"
    norm = "lora_unet_down_blocks_0_resnets_0_norm1"
    tensors = named(f"{start}proj_in", {"diff": torch.ones(32, 32)})  # a 1x1 convolution, written as a matrix
    tensors |= named(norm, {"w_norm": torch.ones(16), "b_norm": torch.ones(16)})
    factors = {f"hada_w{n}_a": torch.ones(16, 2) for n in (1, 2)} | {f"hada_w{n}_b": torch.ones(2, 144) for n in (1, 2)}
    tensors |= named("lora_unet_down_blocks_0_resnets_0_conv1", factors)
    result = place(family, modules_of(tensors))
    assert result.fits and result.found == 3 and len(result.missing) == 191
    assert not place(family, modules_of(named(norm, {"w_norm": torch.ones(7)}))).fits


def test_names_without_meaning() -> None:
    assert model_stem("something.else", False) is None and model_stem("strange", True) is None
    assert model_stem("text_encoder.encoder.layers.0.mlp.fc1", True) == "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    assert model_stem("lora_te1_text_model_encoder_layers_0_mlp_fc1", False).startswith("lora_te_")
