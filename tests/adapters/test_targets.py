"""Which layers are chosen, their ranks and alphas, and how fast each block learns."""

import math

import pytest
import torch
from torch import nn

from library.adapters.kinds import Size
from library.adapters.targets import BlockRates, Sizes, block_number, block_rates, choose_layers, layer_sizes
from library.errors import InputError
from library.models.family import Family
from library.names import unet_names
from tests.toys import toy_text_encoder

DOWN, XL = "lora_unet_down_blocks_0_attentions_0_proj_in", "lora_unet_input_blocks_4_1_proj_in"


@pytest.fixture
def chosen(family: Family, modules):
    """What a choice leaves of the toy's layers."""

    def _chosen(part: str = "unet", *arguments, **more) -> dict[str, str]:
        module = modules[part] if part == "unet" else toy_text_encoder(12)
        every = family.every_layer(module, part)
        dotted = {path: family.diffusers_name(part, path) for path in every}
        return choose_layers(module, every, dotted, part, *arguments, **more)

    return _chosen


@pytest.mark.parametrize(
    ("preset", "unet", "text"),
    [
        (None, 192, 72),
        ("attn-mlp", 192, 72),
        ("attn-only", 16 * 8, 48),
        ("full", 278, 72),
        ("unet-only", 278, 0),
        ("unet-transformer-only", 192, 0),
        ("unet-convblock-only", 86, 0),
        ("ia3", 16 * 5, 60),
    ],
)
def test_presets_choose_as_many_layers_of_sd15_as_others_do(chosen, preset: str, unet: int, text: int) -> None:
    assert (len(chosen("unet", preset)), len(chosen("text_encoder", preset))) == (unet, text)


def test_the_default_is_the_familys_and_conv_dim_is_sd_scripts(chosen, family: Family, modules) -> None:
    assert chosen() == family.adapter_layers(modules["unet"], "unet")
    added = set(chosen("unet", "full").values()) - set(chosen().values())
    names = ["conv1", "conv2", "time_emb_proj", "conv_shortcut", "downsamplers_0_conv", "upsamplers_0_conv"]
    assert {next(name for name in names if stem.endswith(name)) for stem in added} == set(names)


def test_patterns(chosen, modules) -> None:
    assert len(chosen("unet", None, ["unet.*attn2.to_[kv]$"])) == 32
    assert list(chosen("unet", None, ["conv_in", "time_embedding.linear_1"])) == ["conv_in", "time_embedding.linear_1"]
    assert len(chosen("text_encoder", None, [r"text_model\.encoder\.layers\.0\..*q_proj"])) == 1
    assert chosen("unet", None, ["attn7"]) == {} and chosen("unet", None, ["norm"]) == {}


def test_norms_learn_where_layers_do(chosen, modules) -> None:
    more = set(chosen("unet", "unet-convblock-only", norms=True)) - set(chosen("unet", "unet-convblock-only"))
    assert len(more) == 44 and all(".resnets." in path for path in more)
    assert not any("conv_norm_out" in path for path in chosen("unet", "full", norms=True))
    one = chosen("unet", None, ["down_blocks.0.attentions.1.*attn1.to_q"], norms=True)
    assert len(one) == 5 and all(path.startswith("down_blocks.0.attentions.1.") for path in one)
    assert len(chosen("text_encoder", "full", norms=True)) == 72


def test_ranks_and_alphas() -> None:
    sizes = Sizes(8, 4.0, conv_dim=2, conv_alpha=1.0)
    assert sizes.of(DOWN, False, False) == Size(8, 4.0) and sizes.of(DOWN, True, False) == Size(2, 1.0)
    assert Sizes(8, 0.0).of(DOWN, True, False) == Size(8, 8.0)
    assert Sizes(16, 4.0, rank_stabilised=True).of(DOWN, False, False) == Size(16, 16.0)
    dims = tuple(range(25))
    by_block = Sizes(8, 4.0, block_dims=dims, block_alphas=tuple(float(each + 1) for each in dims))
    assert by_block.of(DOWN, False, False) == Size(1, 2.0)
    assert by_block.of("lora_unet_mid_block_attentions_0_proj_in", False, False) == Size(12, 13.0)
    assert by_block.of("lora_unet_conv_in", True, False) is None
    assert by_block.of("lora_te_text_model_encoder_layers_0_mlp_fc1", False, False) == Size(8, 4.0)
    assert Sizes(8, 4.0, block_dims=(3,) * 25, conv_block_dims=(5,) * 25).of(DOWN, True, False) == Size(5, 4.0)
    with pytest.raises(InputError, match="block_dims has 2 numbers, and this model needs 23"):
        Sizes(8, 4.0, block_dims=(1, 2)).of(XL, False, True)


def test_layers_of_a_model_get_theirs() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3))
    layers = {"unet": {str(number): f"lora_unet_down_blocks_0_attentions_0_{number}" for number in range(3)}}
    found = layer_sizes({"unet": model}, layers, Sizes(4, 4.0, conv_dim=2))
    assert [size.rank for size in found.values()] == [4, 4, 2]
    assert layer_sizes({"unet": model}, layers, Sizes(4, 4.0, block_dims=(1,) + (0,) * 24)) == {}


def test_numbers_of_blocks() -> None:
    names = {"down_blocks.0.resnets.0": 1, "down_blocks.0.downsamplers.0": 3, "up_blocks.0.resnets.0": 13}
    names |= {"up_blocks.3.attentions.2": 24, "mid_block.resnets.1": 12, "conv_in": 0}
    for name, number in names.items():
        assert block_number(f"lora_unet_{name.replace('.', '_')}_x", False) == number, name
    xl = {"input_blocks_0_0": 0, "input_blocks_4_1_x": 5, "middle_block_2_x": 12, "output_blocks_8_0_x": 21}
    for name, number in xl.items():
        assert block_number(f"lora_unet_{name}", True) == number, name
    assert block_number("lora_te1_text_model_x", True) is None
    assert len(unet_names(["conv_in"])) == 1


def test_rates_of_blocks() -> None:
    rates = BlockRates("0,0.5" + ",1" * 10, "2", "reverse_linear+0.5", threshold=0.1)
    assert rates.of(DOWN, False) == 0.5
    assert rates.of("lora_unet_conv_in", False) == 0.0
    assert rates.of("lora_unet_mid_block_resnets_0_conv1", False) == 2.0
    assert rates.of("lora_unet_up_blocks_0_resnets_0_conv1", False) == 1.5
    assert rates.of("lora_unet_up_blocks_3_resnets_2_conv1", False) == 0.5
    assert rates.of("lora_te_text_model_encoder_layers_0_mlp_fc1", False) == 1.0
    xl = BlockRates("1,1,1,1,0.25,1,1,1,1", "3,4,5", "")
    assert xl.of(XL, True) == 0.25 and xl.of("lora_unet_middle_block_1_x", True) == 4.0
    assert xl.of("lora_unet_output_blocks_0_0_x", True) == 1.0


def test_courses() -> None:
    assert block_rates("sine", 3, "x") == pytest.approx([0, math.sin(math.pi / 4), 1])
    assert block_rates("cosine+0.2", 3, "x") == pytest.approx([1.2, math.sin(math.pi / 4) + 0.2, 0.2])
    assert block_rates("linear", 3, "x") == [0.0, 0.5, 1.0] and block_rates("zeros+1", 2, "x") == [1.0, 1.0]
    assert block_rates("[1, 2]", 2, "x") == [1.0, 2.0] and block_rates("", 2, "x") == [1.0, 1.0]
    for text, words in (("1,2", "x has 2 numbers, and this model has 3"), ("up", "x must be 3 numbers with commas")):
        with pytest.raises(InputError, match=words):
            block_rates(text, 3, "x")
    assert torch.tensor(block_rates("linear", 1, "x")).tolist() == [0.0]
