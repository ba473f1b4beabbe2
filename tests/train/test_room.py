"""Room on the disk is asked for before it is needed."""

from collections import namedtuple
from pathlib import Path

import pytest

from library.data.cache import LatentCache
from library.errors import InputError
from library.train import room
from library.train.data import encode_pictures, open_datasets
from library.train.room import as_megabytes, cache_bytes, check_cache_room, check_room
from library.train.vae import open_vae

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A disk with 1000 bytes left; gives the folders that were asked about."""
    asked: list[Path] = []
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: (asked.append(path), Usage(9000, 8000, 1000))[1])
    return asked


def test_room(free: list[Path], tmp_path: Path) -> None:
    check_room("output_dir", tmp_path / "new" / "folder", 1000, "Do something.")
    assert free == [tmp_path]
    with pytest.raises(InputError, match=r"output_dir: this run takes up to 3 MB there, and 1 MB are free .* Do some"):
        check_room("output_dir", tmp_path, 2_000_001, "Do something.")


def test_megabytes() -> None:
    assert as_megabytes(1) == "1 MB" and as_megabytes(1.2e9) == "1,200 MB"


def test_latents_that_are_missing(settings_of, family, compute, bench, free, tmp_path) -> None:
    settings = settings_of(flip_aug=True, cache_dir=tmp_path / "cache")
    dataset = open_datasets(settings).train
    cache = LatentCache(tmp_path / "other", "vae")
    views = 2 * len(dataset.pictures)  # as it is and flipped
    assert cache_bytes([dataset], cache) == views * (8 * 8 * 32 + room.ENTRY_BYTES)
    with pytest.raises(InputError, match="cache_dir: this run takes up to"):
        encode_pictures(settings, [dataset], open_vae(settings, family, compute), compute)
    assert not (tmp_path / "cache" / "latents").exists()


def test_the_prediction_is_right(settings_of, family, compute, tmp_path) -> None:
    settings = settings_of(cache_dir=tmp_path / "cache")
    dataset, vae = open_datasets(settings).train, open_vae(settings, family, compute)
    cache = LatentCache(tmp_path / "cache", "any")
    predicted = cache_bytes([dataset], cache)
    encode_pictures(settings, [dataset], vae, compute)
    written = sum(path.stat().st_size for path in (tmp_path / "cache" / "latents").rglob("*.safetensors"))
    assert written <= predicted <= 1.25 * written
    caches = encode_pictures(settings, [dataset], vae, compute)
    assert cache_bytes([dataset], caches.latents) == 0
    check_cache_room([dataset], caches.latents)
