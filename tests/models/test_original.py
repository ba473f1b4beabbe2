"""The names of the original layout: diffusers' own conversion brings them back, and the counts are the real ones."""

import json

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from library.models.checkpoints import part_tensors
from library.models.layout import FILES
from library.models.original import UNET, VAE, from_open_clip, to_open_clip, unet_names, vae_tensors
from tests.toys import original_unet_name, toy_unet, toy_vae


def real_unet(family: str) -> UNet2DConditionModel:
    """The family's UNet in full size, without weights."""
    with init_empty_weights():
        return UNet2DConditionModel.from_config(json.loads((FILES / family / "unet" / "config.json").read_text()))


@pytest.mark.parametrize(("family", "count"), [("sd1", 686), ("sd2", 686), ("sdxl", 1680)])
def test_diffusers_brings_the_names_back(family: str, count: int) -> None:
    unet = real_unet(family)
    names = unet_names(unet.state_dict())
    assert len(set(names.values())) == count
    back = convert_ldm_unet_checkpoint({UNET + new: old for old, new in names.items()}, dict(unet.config))
    assert back == {name: name for name in names}


def test_two_ways_to_the_same_names() -> None:
    names = list(toy_unet().state_dict())
    assert unet_names(names) == {name: original_unet_name(name) for name in names}


def test_modules_have_names_too() -> None:
    names = unet_names(path for path, _ in real_unet("sdxl").named_modules() if path)
    assert names["down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k"] == "input_blocks.4.1.transformer_blocks.1.attn2.to_k"
    assert names["up_blocks.0.upsamplers.0.conv"] == "output_blocks.2.2.conv"
    assert names["mid_block.resnets.1.conv1"] == "middle_block.2.in_layers.2"
    assert names["up_blocks.2.resnets.0.conv_shortcut"] == "output_blocks.6.0.skip_connection"
    assert names["add_embedding.linear_2"] == "label_emb.0.2"


def test_a_vae_comes_back() -> None:
    vae = toy_vae()
    tensors = vae_tensors(vae.state_dict())
    assert len(tensors) == 248 and tensors[VAE + "encoder.mid.attn_1.q.weight"].ndim == 4
    back = convert_ldm_vae_checkpoint({key[len(VAE) :]: each for key, each in tensors.items()}, dict(vae.config))
    assert back.keys() == vae.state_dict().keys()
    assert all(torch.equal(back[key].reshape(tensor.shape), tensor) for key, tensor in vae.state_dict().items())


def test_open_clip_and_back() -> None:
    config = CLIPTextConfig(
        vocab_size=50, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, projection_dim=6
    )
    tensors = part_tensors(CLIPTextModelWithProjection(config))
    tensors = {key: torch.randn_like(tensor) for key, tensor in tensors.items() if not key.endswith("position_ids")}
    named = to_open_clip(tensors)
    assert len(named) == 2 * 12 + 5
    assert named["text_projection"].shape == (8, 6)
    assert named["transformer.resblocks.1.attn.in_proj_weight"].shape == (24, 8)
    back = from_open_clip(named | {"logit_scale": torch.ones(())})
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())
