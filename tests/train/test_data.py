"""From the settings to datasets and latents."""

from pathlib import Path

import pytest
import torch

from library.models.family import open_family
from library.train.data import cache_folder, encode_pictures, find_pictures, open_datasets
from library.train.vae import Vae, open_vae
from tests.runs import draw_pictures
from tests.toys import write_overflowing_sd1


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


def test_a_file_that_names_pictures(settings_of, bench, tmp_path: Path) -> None:
    (tmp_path / "meta.json").touch()
    more = {"dataset_repeats": 3, "trigger_words": "sks", "reg_data_dir": bench.pictures}
    settings = settings_of(in_json=tmp_path / "meta.json", **more)
    subset, reg = find_pictures(settings)
    assert (subset.metadata_file, subset.image_dir) == (tmp_path / "meta.json", bench.pictures)
    assert (subset.num_repeats, subset.trigger_words) == (3, "sks")
    assert reg.is_reg and reg.metadata_file is None and reg.trigger_words is None
    (alone,) = find_pictures(settings_of(in_json=tmp_path / "meta.json", train_data_dir=None))
    assert alone.image_dir == tmp_path


def test_place_of_the_cache(settings_of, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder(settings_of(cache_dir=tmp_path / "mine")) == tmp_path / "mine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(settings_of(cache_dir=None)) == tmp_path / "xdg" / "easel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(settings_of(cache_dir=None)) == Path.home() / ".cache" / "easel"


@pytest.fixture
def loads(family, monkeypatch) -> list[torch.dtype]:
    """The number formats that the VAE was loaded in."""
    loaded: list[torch.dtype] = []
    load = type(family).load_vae
    monkeypatch.setattr(type(family), "load_vae", lambda self, dtype: loaded.append(dtype) or load(self, dtype))
    return loaded


def test_latents_are_encoded_once(settings_of, family, compute, loads, tmp_path: Path) -> None:
    settings = settings_of(cache_dir=tmp_path / "cache")
    datasets = open_datasets(settings).all
    picture, view = datasets[0].pictures[0], datasets[0].view_of(datasets[0].samples[0], 0)
    caches = [encode_pictures(settings, datasets, open_vae(settings, family, compute), compute) for _ in range(3)]
    assert loads == [torch.float32]
    mean, logvar = caches[2].latents.get(picture, view)
    assert mean.shape == logvar.shape == (4, 8, 8)
    half = encode_pictures(settings, datasets, Vae(family, torch.bfloat16, compute.device), compute)
    assert half.latents.path_of(picture, view) != caches[0].latents.path_of(picture, view)


def test_an_overflow_in_half_precision_is_encoded_in_float32(
    settings_of, tmp_path: Path, compute, capsys, monkeypatch
) -> None:
    """All of it, and the next start knows so without trying."""
    family = open_family(str(write_overflowing_sd1(tmp_path / "wild")))
    settings = settings_of(cache_dir=tmp_path / "cache")
    datasets = open_datasets(settings).all
    whole = encode_pictures(settings, datasets, Vae(family, torch.float32, compute.device), compute)
    for path in (tmp_path / "cache" / "latents").rglob("*.safetensors"):
        path.unlink()
    vae = Vae(family, torch.float16, compute.device)
    caches = encode_pictures(settings, datasets, vae, compute)
    assert vae.dtype == torch.float32
    assert capsys.readouterr().err.count("the VAE overflows in float16") == 1
    for sample in datasets[0].samples:
        shown = sample.picture, datasets[0].view_of(sample, 0)
        assert caches.latents.get(*shown) and caches.latents.path_of(*shown) == whole.latents.path_of(*shown)

    def never(*_: object) -> None:
        raise AssertionError("the VAE was loaded")

    monkeypatch.setattr(type(family), "load_vae", never)
    again = encode_pictures(settings, datasets, Vae(family, torch.float16, compute.device), compute)
    assert again.latents.path_of(*shown) == caches.latents.path_of(*shown)


def test_what_overflows_in_float32_ends_the_run(settings_of, family, compute, tmp_path: Path, monkeypatch) -> None:
    settings = settings_of(cache_dir=tmp_path / "cache")
    monkeypatch.setattr(type(family), "encode_images", lambda self, vae, pixels: (pixels * float("nan"), pixels))
    with pytest.raises(FloatingPointError, match="give another vae"):
        encode_pictures(settings, open_datasets(settings).all, open_vae(settings, family, compute), compute)


def test_without_a_cache_nothing_is_encoded(settings_of, family, compute, loads) -> None:
    settings = settings_of(cache_latents=False)
    vae = open_vae(settings, family, compute)
    assert encode_pictures(settings, open_datasets(settings).all, vae, compute) is None
    assert loads == []


def test_variants_are_for_the_cache(settings_of) -> None:
    assert open_datasets(settings_of(cache_variants=7)).train.variants == 7
    assert open_datasets(settings_of(cache_variants=7, cache_latents=False)).train.variants is None


def test_several_resolutions_of_one_folder(settings_of, family, compute, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "in", 2)
    table = "[[datasets]]\nresolution = {}\n[[datasets.subsets]]\nimage_dir = '" + str(folder) + "'\n"
    (tmp_path / "data.toml").write_text("".join(table.format(side) for side in (64, 128, 192)))
    settings = settings_of(train_data_dir=None, dataset_config=tmp_path / "data.toml")
    dataset, vae = open_datasets(settings).train, open_vae(settings, family, compute)
    caches = encode_pictures(settings, [dataset], vae, compute)
    assert dataset.bucket_counts() == {(64, 64): 2, (128, 128): 2, (192, 192): 2}
    shapes = [caches.latents.get(s.picture, dataset.view_of(s, 0))[0].shape[1:] for s in dataset.samples]
    assert shapes == [(8, 8)] * 2 + [(16, 16)] * 2 + [(24, 24)] * 2
