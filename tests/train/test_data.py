"""From the settings to datasets and latents."""

from pathlib import Path

import pytest
import torch

from library.train.data import cache_folder, encode_pictures, find_pictures, open_datasets
from tests.runs import draw_pictures


def test_what_the_settings_say_reaches_each_folder(settings_of) -> None:
    (subset,) = find_pictures(settings_of(flip_aug=True, keep_tokens=2, caption_prefix="p", dataset_repeats=3))
    assert (subset.flip_aug, subset.keep_tokens, subset.caption_prefix, subset.num_repeats) == (True, 2, "p", 3)
    assert subset.resolution == (64, 64) and subset.enable_bucket and not subset.is_reg


def test_folders_of_both_kinds(settings_of, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "train" / "3_sks dog", 1)
    draw_pictures(tmp_path / "reg" / "1_dog", 1, first=5)
    found = find_pictures(settings_of(train_data_dir=tmp_path / "train", reg_data_dir=tmp_path / "reg"))
    assert [(each.class_tokens, each.num_repeats, each.is_reg) for each in found] == [
        ("sks dog", 3, False),
        ("dog", 1, True),
    ]


def test_tables_beat_folders(settings_of, tmp_path: Path, bench) -> None:
    folder = draw_pictures(tmp_path / "tabled", 2)
    text = f"[[datasets]]\nresolution = 128\n[[datasets.subsets]]\nimage_dir = '{folder}'\nflip_aug = true\n"
    (tmp_path / "data.toml").write_text(text)
    (subset,) = find_pictures(settings_of(train_data_dir=None, dataset_config=tmp_path / "data.toml"))
    assert (subset.image_dir, subset.resolution, subset.flip_aug) == (folder, (128, 128), True)


def test_validation_on_training_pictures_or_on_others(settings_of) -> None:
    assert open_datasets(settings_of()).validation is None
    both = open_datasets(settings_of(validate_every_n_epochs=1, flip_aug=True))
    assert both.validation.sample_count == both.train.sample_count == 4
    assert not any(picture.subset.flip_aug for picture in both.validation.pictures)
    split = open_datasets(settings_of(validation_split=0.5))
    kept, held = ({picture.sha256 for picture in each.pictures} for each in split.all)
    assert kept and held and not kept & held and len(kept | held) == 4
    other = [open_datasets(settings_of(validation_split=0.5, validation_seed=seed)).validation for seed in range(6)]
    assert len({frozenset(picture.sha256 for picture in each.pictures) for each in other}) > 1


def test_place_of_the_cache(settings_of, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder(settings_of(cache_dir=tmp_path / "mine")) == tmp_path / "mine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(settings_of(cache_dir=None)) == tmp_path / "xdg" / "easel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(settings_of(cache_dir=None)) == Path.home() / ".cache" / "easel"


def test_latents_are_encoded_once(settings_of, family, compute, tmp_path: Path) -> None:
    settings = settings_of(cache_dir=tmp_path / "cache")
    vae = family.load_vae(torch.float32)
    calls = []
    vae.encoder.register_forward_hook(lambda *_: calls.append(1))
    datasets = open_datasets(settings).all
    cache = encode_pictures(settings, datasets, family, vae, compute)
    assert len(calls) == 4
    encode_pictures(settings, datasets, family, vae, compute)
    assert len(calls) == 4
    mean, logvar = cache.get(datasets[0].pictures[0], False)
    assert mean.shape == logvar.shape == (4, 8, 8)
    half = family.load_vae(torch.bfloat16)
    assert encode_pictures(settings, datasets, family, half, compute).path_of(datasets[0].pictures[0], False) != (
        cache.path_of(datasets[0].pictures[0], False)
    )


def test_without_a_cache_nothing_is_encoded(settings_of, family, compute) -> None:
    settings = settings_of(cache_latents=False)
    assert (
        encode_pictures(settings, open_datasets(settings).all, family, family.load_vae(torch.float32), compute) is None
    )
