"""Wrong settings of every kind: status 2, a clear sentence, no traceback, and nothing written."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import train_network
from library.settings import read_settings
from tests.runs import Bench, draw_pictures, listing, run_to_the_end


def refuse(
    bench: Bench,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    main: Callable[[list[str]], int] = train_network.main,
) -> list[str]:
    """The sentences with which a program refuses to start; nothing may have been written."""
    before = listing(bench.pictures)
    assert run_to_the_end(argv, main) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert not bench.output.exists() and not bench.logs.exists()
    assert listing(bench.pictures) == before
    assert "Traceback" not in "\n".join(lines)
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    assert errors and all(error[-1] in ".?)" for error in errors)
    return errors


# Changed settings, and the words that the one sentence must have.
WRONG = {
    "misspelt": ({"network_dimm": 8}, ["network_dimm", "network_dim"]),
    "wrong type": ({"network_dim": "many"}, ["network_dim", "many", "whole number"]),
    "below its range": ({"train_batch_size": 0}, ["train_batch_size", "1", "0"]),
    "graphs without a GPU": (
        {"cuda_graphs": True, "network_train_unet_only": True},
        ["cuda_graphs is for NVIDIA GPUs, and this run is on cpu"],
    ),
    "no such choice": ({"lr_scheduler": "cosin"}, ["lr_scheduler", "cosin", "cosine"]),
    "unknown optimizer": ({"optimizer_type": "AdamX"}, ["optimizer_type", "AdamX", "AdamW"]),
    "optimizer's argument": ({"optimizer_args": "weight_decai=0.1"}, ["weight_decai", "weight_decay"]),
    "optimizer's value": ({"optimizer_args": "weight_decay=-1"}, ["optimizer_args", "weight_decay"]),
    "no key=value": ({"optimizer_args": "fast"}, ["optimizer_args", "key=value", "fast"]),
    "network's argument": ({"network_args": "conv_dimm=4"}, ["network_args", "conv_dim"]),
    "resolution": ({"resolution": 100}, ["resolution", "100", "64"]),
    "buckets": ({"max_bucket_reso": 64, "resolution": 128}, ["max_bucket_reso", "64", "128"]),
    "no folder": ({"train_data_dir": "nowhere"}, ["train_data_dir", "nowhere", "does not exist"]),
    "no reg folder": ({"reg_data_dir": "nowhere"}, ["reg_data_dir", "nowhere", "does not exist"]),
    "no pictures named": ({"train_data_dir": None}, ["train_data_dir"]),
    "no base model": ({"pretrained_model_name_or_path": None}, ["pretrained_model_name_or_path", "missing"]),
    "base model is gone": ({"pretrained_model_name_or_path": "./gone.safetensors"}, ["gone.safetensors", "not exist"]),
    "vae is gone": ({"vae": "./gone"}, ["vae", "gone", "does not exist"]),
    "both parts alone": (
        {"network_train_unet_only": True, "network_train_text_encoder_only": True},
        ["network_train_unet_only", "network_train_text_encoder_only"],
    ),
    "nothing to learn": ({"learning_rate": 0}, ["learning_rate", "0"]),
    "clip_skip": ({"clip_skip": 9}, ["clip_skip", "9", "2"]),
    "no prompts": ({"sample_prompts": "gone.txt", "sample_every_n_epochs": 1}, ["sample_prompts", "gone.txt"]),
    "no LoRA to start from": ({"network_weights": "gone.safetensors"}, ["network_weights", "gone.safetensors"]),
    "no state": ({"resume": "gone"}, ["resume", "gone", "does not exist"]),
    "a path as a name": ({"output_name": "a/b"}, ["output_name", "a/b"]),
    "a pickle": ({"save_model_as": "ckpt"}, ["save_model_as", "ckpt", "pickle"]),
    "not supported": ({"v2": True}, ["v2", "Stable Diffusion 1.x"]),
    "two rates": ({"optimizer_type": "Prodigy", "network_args": ["loraplus_lr_ratio=2"]}, ["Prodigy", "one learning"]),
}


@pytest.mark.parametrize("kind", WRONG)
def test_one_wrong_setting(bench: Bench, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    changes, words = WRONG[kind]
    (sentence,) = refuse(bench, capsys, bench.argv(**changes))
    assert [word for word in words if word not in sentence] == []


def test_all_mistakes_at_once(bench: Bench, capsys, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text("[anything]\nlearning_rat = 1e-4\nseed = 'x'\n")
    errors = refuse(bench, capsys, [*bench.argv(seed=None), "--config", str(config), "--resolution=100"])
    assert len(errors) == 3
    assert any("run.toml" in e and "anything" in e and "learning_rat" in e and "learning_rate" in e for e in errors)


def test_a_config_that_is_no_toml(bench: Bench, capsys, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text("seed = = 3\n")
    (error,) = refuse(bench, capsys, [*bench.argv(), "--config", str(tmp_path / "run.toml")])
    assert "run.toml" in error
    (error,) = refuse(bench, capsys, [*bench.argv(), "--config", str(tmp_path / "gone.toml")])
    assert "gone.toml" in error


def test_a_folder_without_pictures(bench: Bench, capsys, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (error,) = refuse(bench, capsys, bench.argv(train_data_dir=tmp_path / "empty"))
    assert "no pictures found in" in error and "empty" in error


def test_unreadable_pictures_are_all_named(bench: Bench, capsys, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "some", 2)
    (folder / "text.png").write_text("no picture")
    whole = (folder / "000.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    errors = refuse(Bench(bench.model, folder, tmp_path, bench.cache), capsys, bench.argv(train_data_dir=folder))
    *named, remedy = errors
    assert sorted(name for name in ("half.png", "text.png") for error in named if name in error) == [
        "half.png",
        "text.png",
    ]
    assert len(named) == 2 and "skip_unreadable = true" in remedy


def test_a_caption_that_is_no_text(bench: Bench, capsys, tmp_path: Path) -> None:
    folder = draw_pictures(tmp_path / "some", 1)
    (folder / "000.txt").write_bytes(b"\xff\xfe\x00caption")
    (error,) = refuse(bench, capsys, bench.argv(train_data_dir=folder))
    assert "000.txt" in error and "UTF-8" in error


def write_no_model(kind: str, folder: Path) -> Path:
    """Something that is not a base model."""
    folder.mkdir()
    if kind == "a folder":
        (folder / "readme.txt").write_text("no model")
        return folder
    if kind == "another pipeline":
        (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
        return folder
    path = folder / "model.safetensors"
    if kind == "a LoRA":
        save_file({"lora_unet_mid_block.lora_up.weight": torch.zeros(2, 2)}, path)
    else:
        path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header....")
    return path


@pytest.mark.parametrize("kind", ["a folder", "another pipeline", "a LoRA", "rubbish"])
def test_what_is_no_base_model(bench: Bench, capsys, tmp_path: Path, kind: str) -> None:
    model = write_no_model(kind, tmp_path / "model")
    (error,) = refuse(bench, capsys, bench.argv(pretrained_model_name_or_path=model))
    assert str(model) in error


def test_a_wrong_line_of_prompts(bench: Bench, capsys, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("fine\nnot fine --w many\n")
    (error,) = refuse(bench, capsys, bench.argv(sample_prompts=tmp_path / "prompts.txt", sample_every_n_epochs=1))
    assert "prompts.txt" in error and "line 2" in error and "--w" in error


def test_a_lora_of_another_rank(bench: Bench, capsys, tmp_path: Path) -> None:
    small = {"network_train_text_encoder_only": True}
    other = bench.at("other")
    other.train(**small, max_train_steps=1, network_dim=4)
    capsys.readouterr()
    argv = bench.argv(**small, network_dim=8, network_weights=other.output / "toy.safetensors")
    (error,) = refuse(bench, capsys, argv)
    assert "rank is 4" in error and "dim_from_weights" in error


def test_a_dataset_table(bench: Bench, capsys, tmp_path: Path) -> None:
    text = f"[[datasets]]\nresolution = 96\n[[datasets.subsets]]\nimage_dir = '{bench.pictures}'\nflip_augg = true\n"
    (tmp_path / "data.toml").write_text(text)
    errors = refuse(bench, capsys, bench.argv(train_data_dir=None, dataset_config=tmp_path / "data.toml"))
    assert len(errors) == 2
    assert any("flip_augg" in error and "flip_aug'" in error for error in errors)
    assert any("resolution" in error and "96" in error for error in errors)


def test_an_empty_name_means_the_default(bench: Bench) -> None:
    assert read_settings(bench.argv(output_name="")).output_name == "last"
