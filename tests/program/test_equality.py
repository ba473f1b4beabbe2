"""Randomness belongs to the sample: what is learned does not depend on how the work is cut or read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.runs import ROOT, Bench, assert_same, draw_mask, draw_pictures, largest, largest_difference

# What a cache has variants of, and no cache draws anew each time.
VIEWS = {"random_crop": True, "color_aug": True, "face_crop_aug_range": "1,3", "cache_variants": 3}

# Everything random that a sample can have. Plain gradient descent, because Adam makes whole steps of roundings.
CHANCES = {
    **VIEWS,
    "masked_loss": True,
    "flip_aug": True,
    "shuffle_caption": True,
    "caption_dropout_rate": 0.2,
    "caption_tag_dropout_rate": 0.2,
    "token_warmup_step": 3,
    "enable_wildcard": True,
    "caption_suffix": ", {one|two|three}",
    "noise_offset": 0.1,
    "min_snr_gamma": 5,
    "optimizer_type": "SGDNesterov",
    "learning_rate": 1,
    "max_train_steps": 4,
}


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures, so that an epoch's last batch is a short one; one has a face, some have masks."""
    folder = draw_pictures(tmp_path_factory.mktemp("seven"), 7, size=(96, 64))
    for ending in (".png", ".txt"):
        (folder / f"006{ending}").rename(folder / f"006_30_30_20_20{ending}")
    for number in range(3):
        draw_mask(folder / f"{number:03d}.png", (96, 64))
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, seven: Path, toy_cache: Path) -> dict[str, Tensor]:
    """What batches of four learn."""
    bench = Bench(toy_model, seven, tmp_path_factory.mktemp("whole"), toy_cache)
    tensors = bench.train(train_batch_size=4, **CHANCES)
    assert largest(tensors, "lora_unet") > 0.01 and largest(tensors, "lora_te") > 0.001
    return tensors


@pytest.fixture
def bench7(bench: Bench, seven: Path) -> Bench:
    """A place to train on the seven."""
    return Bench(bench.model, seven, bench.folder, bench.cache)


def test_accumulated_batches_learn_the_same(bench7: Bench, whole: dict[str, Tensor]) -> None:
    parts = bench7.train(train_batch_size=2, gradient_accumulation_steps=2, **CHANCES)
    assert largest_difference(parts, whole) < 1e-5


def test_tables_with_batches_of_their_own_learn_the_same_however_they_are_cut(bench7: Bench, tmp_path: Path) -> None:
    """As in the example of sd-scripts' own documents: two sizes, and fewer of the larger at a time."""

    def tables(first: int, second: int, **changes: object) -> Bench:
        sizes = ((64, first), (128, second))
        table = "[[datasets]]\nresolution = {}\nbatch_size = {}\n[[datasets.subsets]]\nimage_dir = '{}'\n"
        file = tmp_path / f"{first}.toml"
        file.write_text("".join(table.format(*size, bench7.pictures) for size in sizes))
        bench = bench7.at(str(first))
        bench.train(**CHANCES | {"train_data_dir": None, "dataset_config": file, **changes})
        return bench

    whole, parts = tables(4, 2), tables(2, 1, gradient_accumulation_steps=2)
    assert largest_difference(parts.tensors(), whole.tensors()) < 1e-5
    described = json.loads(whole.metadata()["ss_datasets"])
    assert [each["batch_size_per_device"] for each in described] == [4, 2]
    assert whole.metadata()["ss_num_batches_per_epoch"] == "6"  # 7 pictures in fours and in twos
    assert whole.metadata()["ss_resolution"] == "(128, 128)"


def test_two_processes_learn_the_same(bench7: Bench, whole: dict[str, Tensor]) -> None:
    """Through accelerate's launcher, by gloo."""
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    argv = bench7.argv(train_batch_size=2, save_state_on_train_end=True, **CHANCES)
    command = [*launcher, "--main_process_port", "0", str(ROOT / "train_network.py"), *argv]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "in batches of 2 x 2 processes" in done.stdout
    assert done.stdout.count("The LoRA is") == 1  # only one of them speaks
    assert bench7.names() == {"toy.safetensors", "toy-state", "toy.toml"}
    assert largest_difference(bench7.tensors(), whole) < 1e-5
    assert len(list(bench7.logs.iterdir())) == 1
    assert bench7.metadata()["ss_total_batch_size"] == "4"


def test_the_same_run_twice_is_the_same(bench7: Bench, whole: dict[str, Tensor]) -> None:
    torch.manual_seed(12345)  # whatever the process drew before
    assert_same(bench7.train(train_batch_size=4, **CHANCES), whole)


def test_another_seed_is_another_run(bench7: Bench, whole: dict[str, Tensor]) -> None:
    assert largest_difference(bench7.train(train_batch_size=4, **{**CHANCES, "seed": 8}), whole) > 1e-3


@pytest.mark.parametrize("workers", [0, 2])
def test_without_a_cache_the_same(bench7: Bench, workers: int) -> None:
    """But for the crops and colours, of which there are more."""
    changes = {"train_batch_size": 4, **CHANCES, **dict.fromkeys(VIEWS)}
    cached = bench7.at("cached").train(**changes)
    changes |= {"cache_latents": False, "max_data_loader_n_workers": workers}
    assert largest_difference(bench7.train(**changes), cached) < 1e-4


def test_without_a_cache_each_showing_has_a_view_of_its_own(bench7: Bench, whole: dict[str, Tensor]) -> None:
    changes = {"train_batch_size": 4, **CHANCES, "cache_latents": False}
    alone = bench7.at("alone").train(**changes)
    assert_same(bench7.at("helped").train(**changes, max_data_loader_n_workers=2), alone)
    assert largest_difference(alone, whole) > 1e-3


def test_checkpointing_changes_nothing(bench7: Bench, whole: dict[str, Tensor]) -> None:
    tensors = bench7.train(train_batch_size=4, gradient_checkpointing=True, **CHANCES)
    assert largest_difference(tensors, whole) < 1e-5


def test_selective_checkpointing_changes_nothing_at_all(bench7: Bench, whole: dict[str, Tensor]) -> None:
    assert_same(bench7.train(train_batch_size=4, selective_checkpointing=True, **CHANCES), whole)


def test_channels_last_change_rounding_alone(bench7: Bench, whole: dict[str, Tensor]) -> None:
    convolutions = {"network_args": ["conv_dim=4"], "fast_layers": False}
    first = bench7.at("first").train(train_batch_size=4, **convolutions, **CHANCES)
    last = bench7.at("last").train(train_batch_size=4, channels_last=True, **convolutions, **CHANCES)
    assert largest_difference(bench7.train(train_batch_size=4, channels_last=True, **CHANCES), whole) < 1e-5
    assert largest_difference(last, first) < 1e-5


def test_a_moved_folder_changes_nothing(bench7: Bench, whole: dict[str, Tensor], tmp_path: Path) -> None:
    """Samples are known by their content, so other names and places of the same files are the same samples."""
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in bench7.pictures.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    assert_same(Bench(bench7.model, moved, tmp_path, bench7.cache).train(train_batch_size=4, **CHANCES), whole)
