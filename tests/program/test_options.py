"""Every option that decides how is learned: it trains, and it does what it says."""

import math
from itertools import zip_longest
from pathlib import Path

import pytest
import torch

from library.lookup import LR_SCHEDULES
from tests.runs import Bench, draw_pictures, largest, largest_difference
from tests.toys import write_single_file, write_toy_sd1

# Six layers to a text layer, so that a run is quickly set up; two steps are what the up matrices need to move twice.
SMALL = {"network_train_text_encoder_only": True, "max_train_steps": 2}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_pictures: Path, toy_cache: Path) -> Bench:
    """A small run without any option."""
    bench = Bench(toy_model, toy_pictures, tmp_path_factory.mktemp("plain"), toy_cache)
    bench.train(**SMALL)
    return bench


# One optimizer of each package and kind; tests/optim has all of them.
KINDS = "AdamW AdamW8bit Lion PagedLion8bit Adafactor CAME Prodigy DAdaptAdam AdamWScheduleFree SGD SGDNesterov8bit"
PAIRS = list(zip_longest(KINDS.split(), LR_SCHEDULES, fillvalue="cosine"))
NEEDED = {
    "warmup_stable_decay": {"lr_decay_steps": 0.5},
    "cosine_with_min_lr": {"lr_scheduler_min_lr_ratio": 0.1},
    "piecewise_constant": {"lr_scheduler_args": ["step_rules=1:1,0.5"]},
}


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
def test_optimizers_and_schedules(bench: Bench, optimizer: str, schedule: str) -> None:
    course = {"lr_scheduler": schedule, "lr_scheduler_num_cycles": 2, **NEEDED.get(schedule, {})}
    tensors = bench.train(**SMALL, optimizer_type=optimizer, **course)
    assert all(math.isfinite(loss) for loss in bench.losses()) and len(bench.losses()) == 2
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert largest(tensors, "lora_te") > 0
    assert optimizer.lower()[:3] in bench.metadata()["ss_optimizer"].lower()


def test_what_finds_its_own_rate_goes_on_with_one_for_all(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Configs of sd-scripts that give it several run, with a warning, as if the highest were that of all."""
    words = {"max_train_steps": 2, "optimizer_type": "Prodigy"}
    several = bench.train(**words, unet_lr=1, text_encoder_lr=0.5)
    assert "all learn with the highest, 1" in capsys.readouterr().err
    assert largest_difference(several, bench.at("one").train(**words, learning_rate=1)) == 0


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(bench: Bench, plain: Bench, precision: str) -> None:
    # fp16 first finds the scale at which the gradients fit; steps that overflow meanwhile are left out.
    tensors = bench.train(network_train_unet_only=True, max_train_steps=4, mixed_precision=precision)
    assert largest(tensors, "lora_unet") > 0
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert bench.losses()[0] == pytest.approx(plain.losses()[0], rel=0.02)


@pytest.mark.parametrize(
    ("changes", "unet", "text_encoder"),
    [
        ({}, True, True),
        ({"network_train_unet_only": True}, True, False),
        ({"network_train_text_encoder_only": True}, False, True),
        ({"text_encoder_lr": 0}, True, False),
        ({"unet_lr": 0}, False, True),
    ],
)
def test_only_what_is_asked_for_learns(bench: Bench, changes: dict, unet: bool, text_encoder: bool) -> None:
    tensors = bench.train(max_train_steps=1, **changes)
    for part, learns in (("lora_unet", unet), ("lora_te", text_encoder)):
        assert any(name.startswith(part) for name in tensors) == learns
        assert not learns or largest(tensors, part) > 0
    curves = bench.scalars()
    assert ("lr/unet" in curves, "lr/text_encoder" in curves) == (unet, text_encoder)


@pytest.mark.parametrize(
    "changes",
    [
        {"min_snr_gamma": 0.01},
        {"debiased_estimation_loss": True},
        {"v_pred_like_loss": 5},
        {"loss_type": "huber", "huber_schedule": "constant", "huber_c": 0.01},
        {"multires_noise_iterations": 6},
        {"ip_noise_gamma": 1},
        {"timestep_sampling": "logit_normal"},
        {"caption_loss_weights": ["shape 1=9"]},
        {"network_args": ["loraplus_lr_ratio=16"]},
        {"scale_weight_norms": 0.0001},
        {"noise_offset": 0.5},
        {"clip_skip": 2},
        {"min_timestep": 900},
        {"max_timestep": 100},
        {"caption_dropout_rate": 1},
        {"caption_prefix": "another"},
        {"trigger_words": "another"},
        {"secondary_separator": " "},
        {"token_warmup_step": 0.9},
        {"enable_wildcard": True, "caption_suffix": "{, one|, other}"},
        {"max_token_length": 150, "caption_suffix": ", and so on" * 60},
        {"network_dropout": 0.5},
        {"flip_aug": True},
        {"color_aug": True},
        {"resolution": 128},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_option_has_its_effect(bench: Bench, plain: Bench, changes: dict) -> None:
    tensors = bench.train(**SMALL, **changes)
    assert all(math.isfinite(loss) for loss in bench.losses())
    assert largest_difference(tensors, plain.tensors()) > 1e-4


def test_a_single_file_is_the_same_base(bench: Bench, plain: Bench, tmp_path: Path) -> None:
    for ending in ("safetensors", "ckpt"):
        file = write_single_file(bench.model, tmp_path / f"base.{ending}")
        tensors = bench.at(ending).train(**SMALL, pretrained_model_name_or_path=file)
        assert largest_difference(tensors, plain.tensors()) < 1e-4
        assert bench.at(ending).metadata()["ss_sd_model_name"] == f"base.{ending}"


def test_another_vae(bench: Bench, plain: Bench, tmp_path: Path) -> None:
    other = write_toy_sd1(tmp_path / "other", seed=5)
    tensors = bench.train(**SMALL, vae=other / "vae")
    assert largest_difference(tensors, plain.tensors()) > 1e-4
    assert bench.metadata()["ss_vae_name"]


def test_a_model_of_velocity(bench: Bench, tmp_path: Path) -> None:
    base = write_toy_sd1(tmp_path / "v", prediction_type="v_prediction")
    bench.train(**SMALL, pretrained_model_name_or_path=base, min_snr_gamma=5)
    assert bench.metadata()["modelspec.prediction_type"] == "v"


def test_steps_for_each_photo(bench: Bench) -> None:
    bench.train(**{**SMALL, "max_train_steps": 100}, max_steps_per_photo=1)
    assert bench.metadata()["ss_steps"] == "4"


def test_validation_tells_of_learning(bench: Bench) -> None:
    """The same noise each time, so the loss of what is learned by heart falls; it does not change the run."""
    run = {"max_train_steps": 8, "network_train_unet_only": True, "learning_rate": 0.003}
    looked = bench.train(**run, validate_every_n_steps=4)
    curve = bench.scalars()["loss/validation"]
    assert [step for step, _ in curve] == [0, 4, 8]
    assert curve[2][1] < curve[0][1]
    assert largest_difference(looked, bench.at("blind").train(**run)) == 0


def test_held_out_pictures_are_not_learned(bench: Bench) -> None:
    bench.train(**SMALL, validation_split=0.3, validate_every_n_epochs=1)
    told = bench.metadata()
    assert int(told["ss_num_train_images"]) + int(told["ss_num_validation_images"]) == 4
    assert int(told["ss_num_validation_images"]) >= 1


def test_network_weights_are_the_start(bench: Bench, plain: Bench) -> None:
    file = plain.output / "toy.safetensors"
    still = bench.train(**SMALL, network_weights=file, dim_from_weights=True, learning_rate=1e-12)
    assert largest_difference(still, plain.tensors()) < 1e-6


def test_regularisation_pictures(bench: Bench, tmp_path: Path) -> None:
    reg = draw_pictures(tmp_path / "reg" / "1_thing", 3, first=20, words="thing")
    full, none = (bench.at(str(weight)) for weight in (1, 0))
    one = full.train(**SMALL, reg_data_dir=reg.parent, prior_loss_weight=1.0)
    other = none.train(**SMALL, reg_data_dir=reg.parent, prior_loss_weight=0.0)
    assert full.metadata()["ss_num_reg_images"] == "4"  # as many as there are pictures
    assert largest_difference(one, other) > 1e-4
    assert sum(none.losses()) < sum(full.losses())


def test_several_sizes_by_tables(bench: Bench, tmp_path: Path) -> None:
    wide = draw_pictures(tmp_path / "wide", 2, size=(256, 64), first=30)
    text = f"""
        [general]
        enable_bucket = true
        min_bucket_reso = 64
        [[datasets]]
        resolution = 64
        [[datasets.subsets]]
        image_dir = '{bench.pictures}'
        num_repeats = 2
        [[datasets]]
        resolution = 128
        [[datasets.subsets]]
        image_dir = '{wide}'
        flip_aug = true
    """
    (tmp_path / "data.toml").write_text(text)
    small = {**SMALL, "max_train_steps": 5}
    bench.train(**small, train_data_dir=None, dataset_config=tmp_path / "data.toml")
    info = bench.metadata()["ss_bucket_info"]
    assert '"resolution": [64, 64], "count": 8' in info and '"resolution": [256, 64], "count": 2' in info
    assert bench.metadata()["ss_num_train_images"] == "10"
    assert bench.metadata()["ss_num_epochs"] == "1"


def test_an_unreadable_picture_is_left_out_if_asked(bench: Bench, tmp_path: Path, capsys) -> None:
    folder = draw_pictures(tmp_path / "some", 2)
    (folder / "broken.png").write_bytes(b"no picture")
    Bench(bench.model, folder, tmp_path, bench.cache).train(**SMALL, skip_unreadable=True)
    told = capsys.readouterr().out
    assert f"left out, because it cannot be read: {folder / 'broken.png'}" in told
