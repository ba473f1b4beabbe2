"""What is said of adapter files: family, layout, blocks, tags, and what is wrong with them."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.adapters.inspection import Inspection, inspect
from library.adapters.layouts import convert
from library.errors import InputError
from library.models.family import open_family
from library.models.stems import parts_of, weight_stems
from library.weights import save_tensors
from tests.adapters.foreign_files import lora, named
from tests.toy_families import write_toy

FAMILIES = ("sd1", "sd2", "sdxl")
XL_LAYER = "lora_unet_input_blocks_8_1_transformer_blocks_3_attn1_to_q"
READER = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Size]]:
    """Every layer of each family that can carry a LoRA."""
    found: dict[str, dict[str, torch.Size]] = {}
    for name in FAMILIES:
        family = open_family(str(write_toy(tmp_path_factory.mktemp("toys") / name, name)))
        found[name] = {}
        for part in parts_of(family):
            tensors = family.part_tensors(part)
            found[name] |= {stem: tensors[key].shape for stem, key in weight_stems(family, part, tensors).items()}
    return found


def pairs(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    tensors = {}
    for stem, (outputs, inputs, *rest) in shapes.items():
        leaves = {"lora_down.weight": torch.ones(2, inputs, *rest), "alpha": torch.tensor(1.0)}
        tensors |= named(stem, leaves | {"lora_up.weight": torch.ones(outputs, 2, *[1 for _ in rest])})
    return tensors


def look_at(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> Inspection:
    save_tensors(path / "x.safetensors", tensors, metadata)
    return inspect(path / "x.safetensors")


@pytest.mark.parametrize("layout", ["kohya", "diffusers", "original"])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_every_family_is_known(shapes, tmp_path: Path, name: str, layout: str) -> None:
    version = {"sd1": "sd_v1", "sd2": "sd_v2_v", "sdxl": "sdxl_base_v1-0"}[name]
    tensors, metadata = convert(pairs(shapes[name]), {"ss_base_model_version": version}, layout, "x")
    look = look_at(tmp_path, tensors, metadata)
    assert look.family == name and not look.strangers and not look.warnings
    assert look.layout == ("kohya" if (name, layout) == ("sdxl", "original") else layout)
    assert len(look.modules) == len(shapes[name]) and look.kinds == {"LoRA": len(look.modules)}
    unet = [block for block in look.blocks if not block.startswith("te")]
    assert len(unet) == (19 if name == "sdxl" else 25)
    assert look.dtypes == {"float32": sum(each.numel() for each in tensors.values())}


@pytest.mark.parametrize(("width", "family"), [(768, "sd1"), (1024, "sd2"), (2048, "sdxl"), (32, None)])
def test_the_family_shows_in_the_width_of_its_text(tmp_path: Path, width: int, family: str | None) -> None:
    look = look_at(tmp_path, pairs({READER: torch.Size((8, width))}))
    assert look.family == family


def test_metadata_tell_the_family_where_shapes_do_not(tmp_path: Path) -> None:
    for told, family in (
        ({"ss_base_model_version": "sd_v2_v"}, "sd2"),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "sd1"),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base/lora"}, "sdxl"),
    ):
        assert look_at(tmp_path, named(READER, lora()[0]), told).family == family
    look = look_at(tmp_path, named(XL_LAYER, lora()[0]), {"ss_base_model_version": "sd_v1"})
    assert look.family == "sdxl"
    assert any("the metadata say that it is for Stable Diffusion 1.x" in sentence for sentence in look.warnings)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    start = "lora_unet_mid_block_attentions_0_"
    tensors = named(f"{start}proj_in", lora()[0]) | named("lora_unet_double_blocks_0_img_attn_qkv", lora()[0])
    poisoned, zero = lora()[0], lora()[0]
    poisoned["lora_up.weight"][0, 0] = torch.inf
    tensors |= named(f"{start}proj_out", poisoned)
    tensors |= named("lora_te_text_model_encoder_layers_0_mlp_fc1", zero | {"lora_up.weight": torch.zeros(12, 4)})
    tensors |= {"lora_te_text_model_encoder_layers_0_mlp_fc2.lora_up.weight": torch.ones(4, 4)}
    warnings = "\n".join(look_at(tmp_path, tensors).warnings)
    for words in (
        f"1 of 5 layers hold numbers that are none (NaN or infinite), such as {start}proj_out",
        "1 of 5 layers change nothing (all zero), such as lora_te_text_model_encoder_layers_0_mlp_fc1",
        "1 of 5 layers are incomplete or do not fit together, such as lora_te_text_model_encoder_layers_0_mlp_fc2",
        "1 of 5 layers fit no layer that a UI knows, such as lora_unet_double_blocks_0_img_attn_qkv",
    ):
        assert words in warnings


@pytest.mark.parametrize(
    ("stem", "leaves", "is_known"),
    [
        ("lora_unet_down_blocks_0_resnets_0_norm1", {"w_norm": torch.ones(4), "b_norm": torch.ones(4)}, True),
        ("lora_unet_input_blocks_1_0_in_layers_0", {"w_norm": torch.ones(4), "b_norm": torch.ones(4)}, True),
        ("lora_te_text_model_encoder_layers_0_layer_norm1", {"w_norm": torch.ones(4), "b_norm": torch.ones(4)}, False),
        ("lora_unet_conv_norm_out", {"w_norm": torch.ones(4), "b_norm": torch.ones(4)}, False),
        ("lora_unet_mid_block_attentions_0_proj_in", {"diff": torch.ones(4, 4), "surprise": torch.ones(1)}, False),
        ("lora_te2_text_projection", {"diff": torch.ones(4, 4)}, True),
        ("lora_te1_text_projection", {"diff": torch.ones(4, 4)}, False),
    ],
)
def test_names_and_leaves_that_have_a_place(tmp_path: Path, stem: str, leaves: dict, is_known: bool) -> None:
    assert (not look_at(tmp_path, named(stem, leaves)).strangers) is is_known


def test_tags_and_trigger(tmp_path: Path) -> None:
    tags = {"10_sks creature": {"hat": 3, " sks creature": 5}, "b": {"hat": 1, "sks creature": 2}}
    folders = {"10_sks creature": {"n_repeats": 10, "img_count": 5}, "b": {"img_count": 2}}
    told = {"ss_tag_frequency": json.dumps(tags), "ss_dataset_dirs": json.dumps(folders)}
    look = look_at(tmp_path, named(READER, lora()[0]), told)
    assert look.tags == [("sks creature", 7), ("hat", 4)] and look.trigger == "sks creature"
    folders["b"]["img_count"] = 3
    assert look_at(tmp_path, named(READER, lora()[0]), told | {"ss_dataset_dirs": json.dumps(folders)}).trigger is None
    own = told | {"modelspec.trigger_phrase": "mine"}
    assert look_at(tmp_path, named(READER, lora()[0]), own).trigger == "mine"


def test_broken_metadata_are_no_metadata(tmp_path: Path) -> None:
    for words in ("[1]", "{", '{"a": 3}', '{"a": {"b": "x"}}'):
        told = {"ss_tag_frequency": words, "ss_dataset_dirs": words}
        look = look_at(tmp_path, named(READER, lora()[0]), told)
        assert look.tags == [] and look.trigger is None


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"model.diffusion_model.out.2.bias": torch.ones(4)})
    with pytest.raises(InputError, match="is no adapter that is known here"):
        inspect(tmp_path / "x.safetensors")


def test_old_pickled_files_too(tmp_path: Path) -> None:
    torch.save(named(READER, lora()[0]), tmp_path / "x.pt")
    assert inspect(tmp_path / "x.pt").kinds == {"LoRA": 1}
