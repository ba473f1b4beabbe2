"""Models that exist in memory only."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from library.bench.imagined import imagine, random_weights
from library.models.layout import usual_config

SMALL_UNET = 60e6  # numbers, about


def test_the_small_unet_has_the_structure_of_the_true_one() -> None:
    unet = imagine("sd1", small=True).load_unet(torch.float32)
    assert len(imagine("sd1").adapter_layers(unet, "unet")) == 192
    assert sum(each.numel() for each in unet.parameters()) < 2 * SMALL_UNET
    assert all(not each.requires_grad for each in unet.parameters())


def test_weights_keep_numbers_in_range() -> None:
    unet = imagine("sd1", small=True).load_unet(torch.float32)
    with torch.no_grad():
        answer = unet(torch.randn(1, 4, 16, 16), torch.tensor([500]), torch.randn(1, 7, 768)).sample
    assert answer.isfinite().all() and 1e-3 < answer.std() < 1e3


def test_the_same_seed_gives_the_same_weights() -> None:
    config = usual_config("sd1", "unet") | {"block_out_channels": (32, 32, 32, 32)}
    first, again, other = (random_weights(UNet2DConditionModel, config, seed) for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_all_families_can_be_imagined(name: str) -> None:
    family = imagine(name)
    assert family.name == name
    with pytest.raises(LookupError, match="only the UNet and the VAE"):
        family.load_text_encoders(torch.float32)


def test_the_small_vae_decodes() -> None:
    family = imagine("sd1", small=True)
    vae = family.load_vae(torch.float32)
    with torch.no_grad():
        pixels = family.decode_latents(vae, torch.randn(1, 4, 8, 8))
    assert pixels.shape == (1, 3, 64, 64) and pixels.isfinite().all() and pixels.std() > 1e-3
