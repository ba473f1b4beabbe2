"""Names of a UNet's layers: diffusers' conversion and our own bring them back, and the counts are the real ones."""

import pytest
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import nn

from library.models.original import UNET
from library.names import from_original, unet_names
from tests.toy_families import real_unet
from tests.toys import original_unet_name, toy_unet

LAYERS = (nn.Linear, nn.Conv2d)


@pytest.mark.parametrize(("family", "count"), [("sd1", 686), ("sd2", 686), ("sdxl", 1680)])
def test_diffusers_brings_the_names_back(family: str, count: int) -> None:
    unet = real_unet(family)
    names = unet_names(unet.state_dict())
    assert len(set(names.values())) == count
    back = convert_ldm_unet_checkpoint({UNET + new: old for old, new in names.items()}, dict(unet.config))
    assert back == {name: name for name in names}
    assert {name: from_original(new) for name, new in names.items()} == {name: name for name in names}


def test_two_ways_to_the_same_names() -> None:
    names = list(toy_unet().state_dict())
    assert unet_names(names) == {name: original_unet_name(name) for name in names}


def test_modules_have_names_too() -> None:
    unet = real_unet("sdxl")
    names = unet_names(path for path, module in unet.named_modules() if isinstance(module, LAYERS))
    assert {path: from_original(name) for path, name in names.items()} == {path: path for path in names}
    inner = "transformer_blocks.1.attn2.to_k"
    assert names[f"down_blocks.1.attentions.0.{inner}"] == f"input_blocks.4.1.{inner}"
    assert names["up_blocks.0.upsamplers.0.conv"] == "output_blocks.2.2.conv"
    assert names["mid_block.resnets.1.conv1"] == "middle_block.2.in_layers.2"
    assert names["up_blocks.2.resnets.0.conv_shortcut"] == "output_blocks.6.0.skip_connection"
    assert names["add_embedding.linear_2"] == "label_emb.0.2"
