"""Blocks by name: numbered as the original layout does, weighted by the nearest word."""

import subprocess
import sys

import pytest

from library.adapters.blocks import block_of, block_order, read_weights, weigher
from library.errors import InputError
from library.names import unet_names
from tests.toys import toy_unet

STEMS = {
    "lora_te_text_model_encoder_layers_0_mlp_fc1": "te",
    "lora_te2_text_projection": "te2",
    "lora_unet_mid_block_attentions_0_proj_in": "mid",
    "lora_unet_middle_block_1_proj_in": "mid",
    "lora_unet_input_blocks_4_1_proj_in": "in4",
    "lora_unet_output_blocks_11_0_in_layers_2": "out11",
    "lora_unet_down_blocks_0_downsamplers_0_conv": "in3",
    "lora_unet_up_blocks_2_upsamplers_0_conv": "out8",
    "lora_unet_conv_in": "rest",
    "lora_unet_input_blocks_0_0": "rest",
    "lora_unet_time_embedding_linear_1": "rest",
}


@pytest.mark.parametrize("stem", STEMS)
def test_a_layers_block(stem: str) -> None:
    assert block_of(stem) == STEMS[stem]


def test_both_layouts_give_one_block() -> None:
    names = unet_names(path for path, _ in toy_unet().named_modules())
    starts = ("down_blocks.", "mid_block.", "up_blocks.")
    inside = [(one, other) for one, other in names.items() if one.startswith(starts) and one.count(".") > 3]
    for one, other in inside:
        stems = ["lora_unet_" + name.replace(".", "_") for name in (one, other)]
        assert block_of(stems[0]) == block_of(stems[1]), one
    assert len({block_of("lora_unet_" + other.replace(".", "_")) for _, other in inside}) == 11 + 1 + 12


def test_blocks_in_the_order_of_the_data() -> None:
    blocks = ["out10", "mid", "in2", "te2", "out9", "in11", "te1", "rest"]
    assert sorted(blocks, key=block_order) == ["te1", "te2", "rest", "in2", "in11", "mid", "out9", "out10"]


def test_the_nearest_word_counts() -> None:
    weight = weigher(read_weights("in=0.5, in4=2,out=0,te=-1"))
    wanted = {"in4": 2.0, "out11": 0.0, "in3": 0.5, "mid": 1.0, "te": -1.0, "te2": -1.0}
    found = {block: weight(stem) for stem, block in STEMS.items() if block in wanted}
    assert found == {block: wanted[block] for block in found} and len(found) == 6


@pytest.mark.parametrize("text", ["in", "in=much", "middle=1", "in12=1", "in0=1", "te3=1", "=1", ""])
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="block"):
        read_weights(text)


def test_it_needs_no_torch() -> None:
    code = "import sys, library.adapters.blocks; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
