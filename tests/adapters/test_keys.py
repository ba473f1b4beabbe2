"""Names and numbers of LoRA tensors in both layouts, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from library.adapters.keys import (
    LoraWeights,
    dims_of,
    dotted_of,
    parse_adapter,
    read_adapter,
    stem_of,
    to_diffusers,
    to_kohya,
)
from library.errors import InputError
from library.names import unet_names
from tests.toy_families import real_unet

STEM = "lora_unet_mid_block_attentions_0_proj_in"
DOTTED = "unet.mid_block.attentions.0.proj_in"


def draw(*shape: int) -> Tensor:
    """Random values that belong to their shape."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def pair(prefix: str = STEM, rank: int = 3) -> dict[str, Tensor]:
    """A linear layer's two matrices in kohya's layout."""
    return {f"{prefix}.lora_down.weight": draw(rank, 8), f"{prefix}.lora_up.weight": draw(6, rank)}


def test_every_layer_has_one_name_in_each_layout(family, modules) -> None:
    names = []
    for part, module in modules.items():
        targets = [path for path, each in module.named_modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
        names += [family.diffusers_name(part, path) for path in targets]
    assert len(names) == 282 + 12
    assert [dotted_of(stem_of(name)) for name in names] == names
    assert len({stem_of(name) for name in names}) == len(names)


def test_our_layers_have_the_familys_stems(family, layers) -> None:
    for part, chosen in layers.items():
        for path, stem in chosen.items():
            assert stem_of(f"{part}.{path}") == stem
            assert dotted_of(stem) == family.diffusers_name(part, path)


def xl_names() -> dict[str, str]:
    """Dotted names of XL's layers, all linear and convolution layers of the UNet among them, with their stems."""
    unet = real_unet("sdxl")
    paths = [path for path, each in unet.named_modules() if isinstance(each, (nn.Linear, nn.Conv2d))]
    original = unet_names(paths)
    names = {f"unet.{path}": f"lora_unet_{original[path]}".replace(".", "_") for path in paths}
    for part, prefix in (("text_encoder", "lora_te1"), ("text_encoder_2", "lora_te2")):
        names[f"{part}.text_model.encoder.layers.11.mlp.fc1"] = f"{prefix}_text_model_encoder_layers_11_mlp_fc1"
    return names


def test_every_layer_of_xl_has_kohyas_name() -> None:
    names = xl_names()
    assert len(names) == 722 + 72 + 2
    assert {name: stem_of(name, is_xl=True) for name in names} == names
    assert {dotted_of(stem): stem for stem in names.values()} == names


def test_files_of_xl_are_recognised_in_the_layout_of_diffusers() -> None:
    for only in ("unet.up_blocks.0.attentions.1.proj_in", "text_encoder_2.text_model.encoder.layers.3.mlp.fc1"):
        tensors = {f"{only}.lora_A.weight": draw(3, 8), f"{only}.lora_B.weight": draw(6, 3)}
        [stem] = parse_adapter(tensors, {}, "f")
        assert stem == xl_names().get(only, "lora_te2_text_model_encoder_layers_3_mlp_fc1")


def test_a_missing_alpha_is_the_rank() -> None:
    layer = parse_adapter(pair(), {}, "f")[STEM]
    assert (layer.rank, layer.alpha, layer.scale) == (3, 3.0, 1.0)
    assert parse_adapter(pair() | {f"{STEM}.alpha": torch.tensor(1)}, {}, "f")[STEM].scale == 1 / 3


def test_the_change_of_a_convolution_is_that_of_its_two() -> None:
    layer = LoraWeights(draw(3, 8, 3, 3), draw(6, 3, 1, 1), 1.5)
    picture = draw(1, 8, 5, 5)
    expected = nn.functional.conv2d(nn.functional.conv2d(picture, layer.down), layer.up) * 0.5
    torch.testing.assert_close(nn.functional.conv2d(picture, layer.delta()), expected, rtol=1e-4, atol=1e-4)


def test_a_tucker_core_is_multiplied_in() -> None:
    down, mid, up = draw(3, 8, 1, 1), draw(3, 3, 3, 3), draw(6, 3, 1, 1)
    tensors = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}
    layer = parse_adapter({f"{STEM}.{leaf}": tensor for leaf, tensor in tensors.items()}, {}, "f")[STEM]
    picture = draw(1, 8, 5, 5)
    expected = picture
    for weight in (down, mid, up):
        expected = nn.functional.conv2d(expected, weight)
    torch.testing.assert_close(nn.functional.conv2d(picture, layer.delta()), expected, rtol=1e-4, atol=1e-4)


def test_one_alpha_for_all_changes_no_layer() -> None:
    tensors = pair("lora_unet_a") | pair("lora_unet_b", 2) | pair("lora_unet_c", 2)
    tensors |= {"lora_unet_a.alpha": torch.tensor(1.0)}
    before = parse_adapter(tensors, {}, "f")
    written = to_kohya(before)
    assert {value.item() for key, value in written.items() if key.endswith("alpha")} == {2.0}
    after = parse_adapter(written, {}, "f")
    for stem, layer in before.items():
        torch.testing.assert_close(after[stem].delta(), layer.delta())


def test_the_diffusers_layout_changes_no_layer() -> None:
    before = parse_adapter(pair() | {f"{STEM}.alpha": torch.tensor(1.0)}, {}, "f")
    written = to_diffusers(before)
    assert set(written) == {f"{DOTTED}.lora_A.weight", f"{DOTTED}.lora_B.weight"}
    after = parse_adapter(written, {}, "f")
    torch.testing.assert_close(after[STEM].delta(), before[STEM].delta())


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"unet.lora_alpha": 6}, 2.0),
        ({"unet.lora_alpha": 6, "unet.alpha_pattern": {"attentions.0.proj_in": 9}}, 3.0),
        ({"unet.lora_alpha": 6, "unet.alpha_pattern": {"proj_out": 9}}, 2.0),
        ({"unet.lora_alpha": 3, "unet.use_rslora": True}, 3**0.5),
        ({"text_encoder.lora_alpha": 6}, 1.0),
    ],
)
def test_the_alpha_of_diffusers_metadata_counts(config: dict, scale: float) -> None:
    tensors = {f"{DOTTED}.lora_A.weight": draw(3, 8), f"{DOTTED}.lora_B.weight": draw(6, 3)}
    layer = parse_adapter(tensors, {"lora_adapter_metadata": json.dumps(config)}, "f")[STEM]
    assert layer.scale == pytest.approx(scale)


def test_the_text_encoder_has_its_old_name() -> None:
    assert stem_of("text_encoder.encoder.layers.0.mlp.fc1") == "lora_te_text_model_encoder_layers_0_mlp_fc1"
    assert dotted_of("lora_te_text_model_encoder_layers_0_self_attn_out_proj") == (
        "text_encoder.text_model.encoder.layers.0.self_attn.out_proj"
    )


def test_files_of_both_kinds_are_read(tmp_path: Path) -> None:
    safetensors, pickled = tmp_path / "a.safetensors", tmp_path / "a.pt"
    save_file(pair(), safetensors)
    torch.save(pair(), pickled)
    assert dims_of(safetensors) == dims_of(pickled) == ({STEM: 3}, 3.0)
    assert torch.equal(read_adapter(safetensors)[STEM].up, read_adapter(pickled)[STEM].up)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({}, "no tensors"),
        ({f"{STEM}.hada_w1_a": draw(2, 2)}, "hada_w1_a.*no plain LoRA"),
        (pair() | {f"{STEM}.dora_scale": draw(1, 8)}, "dora_scale"),
        ({f"{STEM}.lora_down.weight": draw(3, 8)}, "incomplete.*lora_up.weight"),
        (pair() | {f"{STEM}.lora_up.weight": draw(6, 4)}, "do not fit each other"),
        ({f"{DOTTED}.lora_A.weight": draw(3, 8)}, "incomplete.*lora_B.weight"),
        ({"transformer.x.lora_A.weight": draw(3, 8)}, "transformer.x.lora_A.weight"),
        ({f"{DOTTED}.lora_A.weight": draw(3, 8), f"{DOTTED}.lora_magnitude_vector": draw(8)}, "magnitude"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tensors: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InputError, match=f"^some file.*{words}"):
        parse_adapter(tensors, {}, "some file")


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("lora_unet_add_embedding_linear_1", "unet.add_embedding.linear_1"),
        ("lora_unet_label_emb_0_2", "unet.add_embedding.linear_2"),
        ("lora_te2_text_projection", "text_encoder_2.text_projection"),
        ("lora_te_text_model_encoder_layers_3_layer_norm1", "text_encoder.text_model.encoder.layers.3.layer_norm1"),
        ("lora_te_text_model_final_layer_norm", "text_encoder.text_model.final_layer_norm"),
        (
            "lora_te_text_model_embeddings_token_embedding",
            "text_encoder.text_model.embeddings.token_embedding",
        ),
        ("lora_unet_conv_norm_out", "unet.conv_norm_out"),
    ],
)
def test_names_outside_the_usual_layers(stem: str, name: str) -> None:
    assert dotted_of(stem) == name
