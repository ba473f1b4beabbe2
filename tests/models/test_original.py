"""The names of the original layout of UNet, VAE and text encoders: diffusers' own conversion brings them back."""

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from library.models.checkpoints import part_tensors
from library.models.original import UNET, VAE, from_open_clip, to_open_clip, unet_tensors, vae_tensors
from tests.toys import toy_unet, toy_vae


def test_a_unet_comes_back() -> None:
    unet = toy_unet()
    tensors = unet_tensors(unet.state_dict())
    assert len(tensors) == 686 and all(key.startswith(UNET) for key in tensors)
    back = convert_ldm_unet_checkpoint(dict(tensors), dict(unet.config))
    assert all(torch.equal(back[key], tensor) for key, tensor in unet.state_dict().items())


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
    turned = named | {"text_projection.weight": named["text_projection"].t()}
    del turned["text_projection"]  # as some files have it
    assert torch.equal(from_open_clip(turned)["text_projection.weight"], tensors["text_projection.weight"])
