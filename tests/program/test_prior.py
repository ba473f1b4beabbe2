"""DreamBooth's prior preservation in whole runs of a LoRA: class pictures that are drawn, and the model's own word."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import train_dreambooth
from library.adapters.merged import load_adapters
from library.data.folders import pictures_in
from library.models.family import Family, open_family
from tests.program.test_signals import wait_for
from tests.runs import ROOT, Bench, assert_same, draw_pictures, largest, largest_difference, run_to_the_end

WORDS = {"instance_prompt": "a photo of sks thing", "class_prompt": "a photo of thing"}
DRAWN = {**WORDS, "num_class_images": 3, "class_image_steps": 2}
SELF = {**WORDS, "prior_preservation": "self"}
SMALL = {"max_train_steps": 2, "network_train_unet_only": True}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pictures_in(folder)}


def test_a_run_draws_its_class_and_trains_with_it(bench: Bench, tmp_path: Path, capsys) -> None:
    reg = tmp_path / "new" / "reg"
    bench.train(**SMALL, **DRAWN, reg_data_dir=reg)
    told = capsys.readouterr().out
    assert list(contents(reg)) == [f"class_{number:05d}.png" for number in range(3)]
    assert "regularisation, 3 pictures x 1, 0 captions, 3 without: \"a photo of thing\"" in told
    assert "8 samples an epoch" in told and bench.metadata()["ss_num_reg_images"] == "4"
    again = bench.at("again")
    assert_same(again.train(**SMALL, **DRAWN, reg_data_dir=reg), bench.tensors())
    assert "would be" not in told and "3 drawn" not in capsys.readouterr().out


def test_the_written_settings_find_the_pictures_again(bench: Bench, tmp_path: Path) -> None:
    own = {"cache_dir": tmp_path / "cache"}
    bench.train(**SMALL, **DRAWN, **own)
    (folder,) = (tmp_path / "cache" / "class").iterdir()
    before = {path: path.stat().st_mtime_ns for path in pictures_in(folder)}
    assert len(before) == 3
    again = bench.at("again")
    argv = ["--config", str(bench.output / "toy.toml"), f"--output_dir={again.output}", f"--logging_dir={again.logs}"]
    assert run_to_the_end(argv) == 0
    assert_same(again.tensors(), bench.tensors())
    assert {path: path.stat().st_mtime_ns for path in pictures_in(folder)} == before


def test_stopped_while_drawing(bench: Bench, tmp_path: Path) -> None:
    """By Ctrl+C, then by kill -9: what is there is whole, and the last start draws the rest of the same set."""
    run = {**SMALL, **DRAWN, "num_class_images": 24, "class_image_steps": 30}  # enough to be caught in between
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads()), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(ROOT / "train_network.py"), *bench.argv(**run, reg_data_dir=tmp_path / "reg")]
    first: dict[str, bytes] = {}
    for number, awaited, status in ((signal.SIGINT, 0, 130), (signal.SIGKILL, 3, -signal.SIGKILL)):
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
            wait_for(tmp_path / "reg" / f"class_{awaited:05d}.png", process)
            process.send_signal(number)
            told = process.communicate()[1]
        assert process.returncode == status and "Traceback" not in told
        assert ("error: interrupted." in told) == (number == signal.SIGINT)
        now = contents(tmp_path / "reg")
        assert first.items() <= now.items() and awaited < len(now) < 24 and not bench.output.exists()
        first = now
    tensors = bench.train(**run, reg_data_dir=tmp_path / "reg")
    unbroken = bench.at("unbroken")
    assert_same(unbroken.train(**run, reg_data_dir=tmp_path / "other"), tensors)
    whole = contents(tmp_path / "reg")
    assert whole == contents(tmp_path / "other") and first.items() <= whole.items()


def test_two_processes_draw_together(bench: Bench, tmp_path: Path) -> None:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    argv = bench.argv(**SMALL, **DRAWN, reg_data_dir=tmp_path / "reg")
    command = [*launcher, "--main_process_port", "0", str(ROOT / "train_network.py"), *argv]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("3 drawn of 'a photo of thing'") == 1
    bench.at("alone").train(**SMALL, **DRAWN, reg_data_dir=tmp_path / "alone")
    assert list(contents(tmp_path / "reg")) == list(contents(tmp_path / "alone"))


def test_a_dry_run_draws_nothing(bench: Bench, tmp_path: Path, capsys) -> None:
    argv = bench.argv(**SMALL, **DRAWN, reg_data_dir=tmp_path / "reg", dry_run=True)
    assert run_to_the_end(argv) == 0
    told = capsys.readouterr().out
    assert "3 would be drawn of 'a photo of thing'" in told and "8 samples an epoch" in told
    assert not (tmp_path / "reg").exists() and not bench.output.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reg_data_dir": "empty"}, ["no pictures found in", "empty", "num_class_images"]),
        ({"reg_data_dir": "gone"}, ["reg_data_dir", "gone", "does not exist", "num_class_images"]),
        ({"num_class_images": 4}, ["num_class_images", "class_prompt"]),
        ({**DRAWN, "instance_prompt": "a photo of zwx thing"}, ["identifier 'zwx'", "none of the 4 captions"]),
        ({**DRAWN, "instance_prompt": "a photo of thing"}, ["instance_prompt", "no word beyond class_prompt"]),
    ],
)
def test_refusals(bench: Bench, tmp_path: Path, monkeypatch, capsys, changes: dict, words: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    changes = {"reg_data_dir": "new", **changes} if "num_class_images" in changes else changes
    assert run_to_the_end(bench.argv(**changes)) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert told.startswith("error: ") and [word for word in words if word not in told] == []
    assert not bench.output.exists() and not Path("new").exists()


@torch.no_grad()
def answer_of(family: Family, lora: Path | None = None, words: str = WORDS["class_prompt"]) -> Tensor:
    """What a model, or a LoRA on it, predicts for some words at fixed noise and timesteps."""
    modules = {"unet": family.load_unet(torch.float32), "text_encoder": family.load_text_encoders(torch.float32)[0]}
    if lora:
        layers = {part: family.adapter_layers(module, part) for part, module in modules.items()}
        load_adapters([(lora, 1.0)], modules, layers)
    noisy = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    condition = family.encode_text([modules["text_encoder"]], family.tokenize([words] * 4, 75))
    return family.predict(modules["unet"], noisy, torch.tensor([100, 350, 600, 850]), condition)


def drift(bench: Bench, words: str) -> float:
    """How far the LoRA of a run moves the base model's answer to some words, as a root mean square."""
    family = open_family(str(bench.model))
    difference = answer_of(family, bench.output / "toy.safetensors", words) - answer_of(family, None, words)
    return difference.square().mean().sqrt().item()


def test_the_models_own_word_keeps_the_class(bench: Bench) -> None:
    """With text encoders that learn too; the subject is learned all the same."""
    run = {"max_train_steps": 20, "learning_rate": 0.005}
    free, kept = bench.at("free"), bench.at("kept")
    free.train(**run)
    kept.train(**run, **SELF, prior_loss_weight=100)
    moved, held = drift(free, WORDS["class_prompt"]), drift(kept, WORDS["class_prompt"])
    assert moved > 0.05 and held < moved / 4
    assert drift(kept, "sks thing, shape 1, bright, plain") > 1e-3


EXACT = {**SELF, "prior_loss_weight": 2, "optimizer_type": "SGDNesterov", "learning_rate": 1, "max_train_steps": 4}


def test_however_the_work_is_cut(bench: Bench) -> None:
    whole = bench.at("whole").train(**EXACT, train_batch_size=4)
    parts = bench.at("parts").train(**EXACT, train_batch_size=2, gradient_accumulation_steps=2)
    assert largest_difference(parts, whole) < 1e-5
    without = {name: value for name, value in EXACT.items() if name != "prior_preservation"}
    assert largest_difference(bench.at("without").train(**without, train_batch_size=4), whole) > 1e-3
    lean = bench.at("lean").train(**EXACT, train_batch_size=4, gradient_checkpointing=True)
    assert largest_difference(lean, whole) < 1e-5


def test_a_stopped_run_goes_on_exactly(bench: Bench) -> None:
    run = {**SELF, "max_train_steps": 4, "network_dropout": 0.2}
    unbroken = bench.at("unbroken")
    tensors = unbroken.train(**run, save_state=True, save_every_n_steps=2)
    state = unbroken.output / "toy-step00000002-state"
    assert_same(bench.at("again").train(**run, resume=state), tensors)
    argv = bench.at("other").argv(**{**run, "class_prompt": "a thing"}, resume=state)
    assert run_to_the_end(argv) == 2


def test_a_new_word_that_learns_alone_at_first(bench: Bench) -> None:
    """What the class prompt is answered depends on nothing that learns then."""
    run = {"token_string": "<toy>", "init_word": "thing", "caption_prefix": "<toy>", "max_train_steps": 4}
    words = {"prior_preservation": "self", "class_prompt": WORDS["class_prompt"]}
    tensors = bench.train(**run, **words, ti_steps=2)
    assert largest(tensors, "lora_unet") > 0.001


def test_whole_models_keep_their_class(bench: Bench) -> None:
    run = {"network_dim": None, "network_alpha": None, "max_train_steps": 20, "learning_rate": 1e-3}

    def moved(name: str, **changes: object) -> float:
        place = bench.at(name)
        assert train_dreambooth.main(place.argv(**run, train_text_encoder=True, **changes)) == 0
        told = [answer_of(open_family(str(model))) for model in (bench.model, place.output / "toy.safetensors")]
        return (told[1] - told[0]).square().mean().sqrt().item()

    free = moved("free")
    assert free > 0.05 and moved("kept", **SELF, prior_loss_weight=100) < free / 3


def test_pictures_and_prompts_without_captions(bench: Bench, tmp_path: Path, capsys) -> None:
    folder = draw_pictures(tmp_path / "own", 2)
    for path in folder.glob("*.txt"):
        path.unlink()
    bench.train(**SMALL, **WORDS, train_data_dir=folder)
    assert "0 captions, 2 without: \"a photo of sks thing\"" in capsys.readouterr().out
