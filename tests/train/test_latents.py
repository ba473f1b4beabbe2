"""Latents and masks are the same from memory, from disk and from the pictures, and what is lost is made anew."""

import numpy as np
import pytest
import torch
from PIL import Image

from library.train import latents as module
from library.train.data import encode_pictures, open_datasets
from library.train.latents import Latents
from library.train.vae import open_vae
from tests.runs import draw_pictures

CHANCES = {"flip_aug": True, "random_crop": True, "color_aug": True, "enable_bucket": False, "masked_loss": True}


@pytest.fixture
def made(settings_of, family, compute, tmp_path):
    """A dataset of wide pictures with all chances, some with masks, its VAE and its caches."""
    folder = draw_pictures(tmp_path / "wide", 3, size=(96, 64))
    for number in (0, 2):
        grey = np.random.default_rng(number).integers(0, 256, (64, 96), dtype=np.uint8)
        Image.fromarray(grey).save(folder / f"{number:03d}-masklabel.png")
    settings = settings_of(train_data_dir=folder, cache_dir=tmp_path / "cache", **CHANCES)
    dataset, vae = open_datasets(settings).train, open_vae(settings, family, compute)
    return dataset, vae, encode_pictures(settings, [dataset], vae, compute)


def test_everything_is_the_same_from_memory_and_disk(made, compute, monkeypatch) -> None:
    dataset, _, caches = made
    memory = Latents(dataset, caches, compute.device)
    monkeypatch.setattr(module, "RESIDENT_BYTES", 100)
    disk = Latents(dataset, caches, compute.device)
    assert memory.is_resident and not disk.is_resident
    for epoch in range(5):
        one, other = memory.read(dataset.samples, epoch), disk.read(dataset.samples, epoch)
        assert one.pixels is other.pixels is None
        assert one.mean.shape == one.logvar.shape == (3, 4, 8, 8) and one.mask.shape == (3, 1, 8, 8)
        for name in ("mean", "logvar", "mask"):
            assert torch.equal(getattr(one, name), getattr(other, name))
        assert torch.equal(one.mask[1], torch.ones(1, 8, 8)) and not torch.equal(one.mask[0], one.mask[1])


def test_without_a_cache_pixels_are_read(made, compute) -> None:
    dataset, vae, caches = made
    plain = Latents(dataset, None, compute.device)
    reading = plain.read(dataset.samples, 3)
    assert reading.mean is reading.logvar is None and reading.pixels.shape == (3, 3, 64, 64)
    cached = Latents(dataset, caches, compute.device).read(dataset.samples, 3)
    torch.testing.assert_close(vae.encode(reading.pixels)[0], cached.mean, atol=1e-4, rtol=1e-4)
    assert torch.equal(reading.mask, cached.mask)


def test_no_masks_no_mask(settings_of, compute) -> None:
    dataset = open_datasets(settings_of()).train
    assert Latents(dataset, None, compute.device).read(dataset.samples, 0).mask is None


@pytest.mark.parametrize("limit", [100, 1 << 30])
def test_what_was_lost_is_read_as_pixels_and_kept_again(made, compute, monkeypatch, limit: int) -> None:
    dataset, vae, caches = made
    monkeypatch.setattr(module, "RESIDENT_BYTES", limit)
    whole = Latents(dataset, caches, compute.device).read(dataset.samples, 1)
    lost = caches.latents.path_of(dataset.pictures[1], dataset.view_of(dataset.samples[1], 1))
    lost.write_bytes(lost.read_bytes()[:-9])
    latents = Latents(dataset, caches, compute.device)
    reading = latents.read(dataset.samples, 1)
    assert reading.mean is None
    latents.keep(dataset.samples, 1, *vae.encode(reading.pixels))
    again = latents.read(dataset.samples, 1)
    torch.testing.assert_close(again.mean, whole.mean, atol=1e-4, rtol=1e-4)
    assert caches.latents.get(dataset.pictures[1], dataset.view_of(dataset.samples[1], 1))
