"""Pictures in a whole run: a second start needs no VAE, masks hide what they should, everything works together."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from library.models.sd1 import SD1
from tests.runs import BASICS, Bench, assert_same, draw_mask, draw_pictures, largest_difference, listing
from tests.toys import write_overflowing_sd1

SMALL = {"network_train_unet_only": True, "max_train_steps": 2}
CHANCES = {"flip_aug": True, "color_aug": True, "random_crop": True, "face_crop_aug_range": "1,4"}


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """The number formats in which VAEs were loaded."""
    loaded: list[torch.dtype] = []
    load = SD1.load_vae
    monkeypatch.setattr(SD1, "load_vae", lambda self, dtype: loaded.append(dtype) or load(self, dtype))
    return loaded


@pytest.fixture
def own(bench: Bench, tmp_path: Path) -> Bench:
    """A bench with wide pictures and a cache of its own; one picture has a face, two have masks."""
    folder = draw_pictures(tmp_path / "wide", 4, size=(96, 64))
    for ending in (".png", ".txt"):
        (folder / f"003{ending}").rename(folder / f"003_30_30_20_20{ending}")
    for number in (0, 1):
        draw_mask(folder / f"{number:03d}.png", (96, 64))
    return Bench(bench.model, folder, tmp_path, tmp_path / "cache")


def test_a_second_start_loads_no_vae(own: Bench, loads: list[torch.dtype]) -> None:
    run = {**SMALL, **CHANCES, "masked_loss": True, "validate_every_n_steps": 1}
    first = own.at("first").train(**run)
    assert loads == [torch.float32]
    left = listing(own.cache)
    assert_same(own.at("second").train(**run), first)
    own.at("other seed").train(**run | {"seed": 99, "max_train_steps": 5})
    assert loads == [torch.float32]
    assert listing(own.cache) == left


def test_the_first_preview_loads_the_vae(own: Bench, loads: list[torch.dtype]) -> None:
    own.at("first").train(**SMALL)
    loads.clear()
    own.train(**SMALL, sample_every_n_steps=1)
    assert loads == [torch.float32]
    assert len(list((own.output / "sample").iterdir())) == 2 * 4


def test_a_damaged_entry_is_made_anew_in_the_middle_of_a_run(own: Bench, loads: list[torch.dtype]) -> None:
    whole = own.at("whole").train(**SMALL)
    loads.clear()
    for path in (own.cache / "latents").rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-4])
    assert largest_difference(own.at("again").train(**SMALL), whole) < 1e-3
    assert loads == [torch.float32]
    loads.clear()
    own.train(**SMALL)
    assert loads == []


@pytest.mark.parametrize("cached", [True, False])
def test_what_is_masked_is_not_learned(own: Bench, tmp_path: Path, cached: bool) -> None:
    run = {**SMALL, "cache_latents": cached}
    white, half, black = (Bench(own.model, tmp_path / name, tmp_path / f"run {name}", own.cache) for name in "whb")
    for bench, left, right in ((white, 255, 255), (half, 0, 255), (black, 0, 0)):
        draw_pictures(bench.pictures, 3)
        for path in list(bench.pictures.glob("*.png")):
            draw_mask(path, left=left, right=right)
    plain, masked = white.train(**run), half.train(**run, masked_loss=True)
    assert_same(white.at("again").train(**run, masked_loss=True), plain)
    assert largest_difference(plain, masked) > 1e-3
    assert half.losses()[0] == pytest.approx(white.losses()[0] / 2, rel=0.2)
    learned = black.train(**run, masked_loss=True)
    assert black.losses() == [0.0, 0.0]
    assert all(not tensor.any() for name, tensor in learned.items() if "lora_up" in name)


def test_masks_are_said(own: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    own.train(**SMALL, masked_loss=True, dry_run=False)
    told = capsys.readouterr()
    assert "2 of 4 pictures have no mask" in told.err and "2 masks" in told.out
    own.at("off").train(**SMALL)
    assert "are not used, because masked_loss is off" in capsys.readouterr().err


def test_an_overflowing_vae_previews_and_trains(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a GPU in fp16, which is the only place where that is chosen."""
    from library.train import job

    opened = job.open_vae
    model = write_overflowing_sd1(tmp_path / "wild")
    wild = Bench(model, bench.pictures, tmp_path, tmp_path / "cache")
    whole = wild.at("whole").train(**SMALL)
    capsys.readouterr()

    def in_half(settings, family, compute):
        made = opened(settings, family, compute)
        made.dtype = torch.float16
        return made

    monkeypatch.setattr(job, "open_vae", in_half)
    assert_same(wild.train(**SMALL, sample_every_n_steps=2), whole)
    assert capsys.readouterr().err.count("the VAE overflows in float16") == 1
    pictures = [Image.open(path).getextrema() for path in (wild.output / "sample").iterdir()]
    assert len(pictures) == 4 and all(low < high for extrema in pictures for low, high in extrema)


def test_what_the_metadata_and_the_settings_file_say(own: Bench) -> None:
    own.train(**SMALL, **CHANCES, resize_interpolation="area", masked_loss=True, alpha_mask=True, cache_variants=2)
    told = own.metadata()
    assert (told["ss_color_aug"], told["ss_random_crop"], told["ss_flip_aug"]) == ("True", "True", "True")
    assert (told["ss_face_crop_aug_range"], told["ss_resize_interpolation"]) == ("(1.0, 4.0)", "area")
    text = (own.output / "toy.toml").read_text()
    for line in ("face_crop_aug_range = [ 1.0, 4.0,]", "masked_loss = true", "alpha_mask = true", "cache_variants = 2"):
        assert line in text
    again = own.at("again")
    argv = {"config": own.output / "toy.toml", "output_dir": again.output, "logging_dir": again.logs}
    nothing = dict.fromkeys(("train_data_dir", *BASICS))
    assert_same(again.train(**nothing | {"output_name": "toy"}, **argv), own.tensors())


def test_one_folder_at_several_resolutions(own: Bench, tmp_path: Path) -> None:
    table = "[[datasets]]\nresolution = {}\n[[datasets.subsets]]\nimage_dir = '" + str(own.pictures) + "'\n"
    (tmp_path / "data.toml").write_text("".join(table.format(side) for side in (64, 128)))
    own.train(**SMALL, **CHANCES, train_data_dir=None, dataset_config=tmp_path / "data.toml")
    told = own.metadata()
    buckets = json.loads(told["ss_bucket_info"])["buckets"].values()
    assert [(bucket["resolution"], bucket["count"]) for bucket in buckets] == [([64, 64], 4), ([128, 128], 4)]
    assert told["ss_num_train_images"] == "8"
