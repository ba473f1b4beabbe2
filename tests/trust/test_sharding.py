"""FSDP on two processes against two that hold the model whole, and what it cannot do."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import train_dreambooth
from library.device import start_compute
from library.train.sharding import shard
from library.train.state import load_state
from tests.runs import ROOT, WHOLE, Bench, draw_two_shapes, largest_difference, run_to_the_end
from tests.toys import original_unet_name, toy_unet
from tests.trust.processes import status_of
from tests.trust.together import free_port, run_together

# Two shapes, of which one gives a short effective batch in which the second process has nothing to do.
RUN: dict[str, Any] = {
    **WHOLE,
    "max_train_steps": 3,
    "train_batch_size": 2,
    "resolution": 128,
    "enable_bucket": True,
    "min_bucket_reso": 64,
    "shuffle_caption": True,
    "flip_aug": True,
    "learning_rate": 1e-4,
    "optimizer_args": ["eps=1e-6"],
    "save_precision": "fp32",
}
FSDP = {"ACCELERATE_USE_FSDP": "true"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_cache: Path) -> Bench:
    """Six pictures: effective batches of 4, and of 2, which is one process's."""
    folder = tmp_path_factory.mktemp("sharding")
    pictures = draw_two_shapes(folder / "pictures", 4, 2)
    return Bench(toy_model, pictures, folder, toy_cache)


def both(place: Bench, name: str, **changes: Any) -> tuple[Bench, Bench, str]:
    """The same run with whole models and with slices, and what the second said."""
    whole, slices = place.at(f"{name} whole"), place.at(f"{name} slices")
    run_together(whole.argv(**{**RUN, **changes}), whole.folder, "train_dreambooth")
    told = run_together(slices.argv(**{**RUN, **changes}), slices.folder, "train_dreambooth", **FSDP)
    return whole, slices, told


def moved(bench: Bench, place: Bench) -> float:
    """The farthest that a weight of the UNet has gone from the base model's."""
    base = load_file(place.model / "unet" / "diffusion_pytorch_model.safetensors")
    named = {original_unet_name(name): tensor for name, tensor in base.items()}
    tensors = bench.tensors()
    return max((tensors[f"model.diffusion_model.{name}"] - each).abs().max().item() for name, each in named.items())


def test_three_steps_are_those_of_whole_models(place: Bench) -> None:
    whole, slices, told = both(place, "plain")
    assert told.count("The model is") == 1 and slices.names() == whole.names()
    difference = largest_difference(slices.tensors(), whole.tensors())
    far = moved(whole, place)
    print(f"FSDP against whole models, 3 steps: largest difference {difference:.1e}; weights moved by up to {far:.1e}")
    assert difference < 1e-6 < 0.01 * far


def test_everything_else_that_is_saved(place: Bench) -> None:
    """Text encoder, average, accumulation, checkpointing, clipping, the base's own prior, states."""
    changes = {
        "train_text_encoder": True,
        "ema": True,
        "train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "gradient_checkpointing": True,
        "max_grad_norm": 0.1,
        "prior_preservation": "self",
        "class_prompt": "thing",
        "save_every_n_steps": 2,
        "save_state": True,
    }
    whole, slices, _ = both(place, "all", **changes)
    assert slices.names() == whole.names() >= {"toy-ema.safetensors", "toy-state", "toy-step00000002-state"}
    for name in ("toy", "toy-ema", "toy-step00000002"):
        assert largest_difference(slices.tensors(name), whole.tensors(name)) < 1e-6
    states = [load_state(bench.output / "toy-step00000002-state", {}) for bench in (whole, slices)]
    assert largest_difference(states[1].weights, states[0].weights) < 1e-6
    for one, other in zip(*(state.optimizer["optimizer"]["state"].values() for state in states), strict=True):
        assert type(other["exp_avg"]) is torch.Tensor
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-7)
    again = place.at("again")
    run = {**RUN, **changes, "resume": slices.output / "toy-step00000002-state"}
    run_together(again.argv(**run), again.folder, "train_dreambooth", **FSDP)
    assert largest_difference(again.tensors(), slices.tensors()) < 1e-7, "gone on with slices"
    alone = place.at("alone")
    alone.train_all(**{**run, "train_batch_size": 4, "gradient_accumulation_steps": 1})
    assert largest_difference(alone.tensors(), slices.tensors()) < 1e-6, "gone on with by one process"


def test_previews_and_validation(place: Bench) -> None:
    """Three pictures are held out: two batches, of which each process has one, and one in which the second waits."""
    prompts = place.folder / "prompts.txt"
    prompts.write_text("sks thing --s 2 --w 64 --h 64 --d 3\na plain shape --s 2 --w 128 --h 64 --n bright\n")
    changes = {
        "max_train_steps": 2,
        "sample_prompts": prompts,
        "sample_at_first": True,
        "sample_every_n_steps": 2,
        "save_every_n_steps": 1,
        "validation_split": 0.5,
        "validate_every_n_steps": 1,
        "train_batch_size": 1,
    }
    whole, slices, told = both(place, "watched", **changes)
    assert slices.names() == whole.names() >= {"sample"} and told.count("validation loss") == 3
    assert largest_difference(slices.tensors(), whole.tensors()) < 1e-6
    losses = [bench.scalars()["loss/validation"] for bench in (whole, slices)]
    assert [step for step, _ in losses[1]] == [0, 1, 2]
    worst = max(abs(one - other) for (_, one), (_, other) in zip(*losses, strict=True))
    pictures = sorted(path.name for path in (whole.output / "sample").iterdir())
    assert len(pictures) == 4 and pictures == sorted(path.name for path in (slices.output / "sample").iterdir())
    shades = [[np.asarray(Image.open(b.output / "sample" / n), int) for n in pictures] for b in (whole, slices)]
    levels = max(int(abs(one - other).max()) for one, other in zip(*shades, strict=True))
    print(f"validation losses differ by up to {worst:.1e}, previews by up to {levels} of 255 levels")
    assert worst < 1e-6 and levels <= 1
    assert any((shades[0][n] != shades[0][n + 2]).any() for n in range(2)), "learning shows in them"


def hold(rank: int, port: int, folder: Path) -> None:
    """One process of two: the shares of weights, gradients and optimizer state that it holds after a step."""
    words = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(word) for name, word in words.items()} | FSDP)
    compute, unet = start_compute("no", may_shard=True), toy_unet()
    total = sum(weight.numel() for weight in unet.parameters())
    shard(unet, compute)
    optimizer = torch.optim.AdamW(unet.parameters(), fused=True)
    unet(torch.zeros(1, 4, 8, 8), torch.tensor([1]), torch.zeros(1, 77, 32)).sample.sum().backward()
    optimizer.step()
    held = [list(unet.parameters()), [weight.grad for weight in unet.parameters()]]
    held += [[state[name] for state in optimizer.state.values()] for name in ("exp_avg", "exp_avg_sq")]
    shares = [sum(each.to_local().numel() for each in tensors) / total for tensors in held]
    (folder / f"held{rank}").write_text(json.dumps(shares))


def test_each_process_holds_half(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    port = free_port()
    processes = [context.Process(target=hold, args=(rank, port, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    assert [status_of(process) for process in processes] == [0, 0]
    shares = [json.loads((tmp_path / f"held{rank}").read_text()) for rank in range(2)]
    print(f"shares of weights, gradients and two moments: {shares}")
    assert all(share == pytest.approx(0.5, abs=0.02) for several in shares for share in several)


@pytest.mark.long
def test_selective_checkpointing_of_slices(place: Bench) -> None:
    whole, _, _ = both(place, "plain")
    slices = place.at("selective")
    run_together(slices.argv(**RUN, selective_checkpointing=True), slices.folder, "train_dreambooth", **FSDP)
    assert largest_difference(slices.tensors(), whole.tensors()) < 1e-6


@pytest.mark.long
def test_by_accelerates_launcher(place: Bench) -> None:
    """As a person starts it, and with the file for DeepSpeed what a person then reads."""
    whole, launched = place.at("launch whole"), place.at("launched")
    run_together(whole.argv(**RUN), whole.folder, "train_dreambooth")
    for name, bench in (("fsdp", launched), ("deepspeed", place.at("deep"))):
        launcher = [sys.executable, "-m", "accelerate.commands.launch"]
        launcher += ["--config_file", f"configs/accelerate/{name}.yaml", "--main_process_port", str(free_port())]
        command = [*launcher, "train_dreambooth.py", *bench.argv(**RUN)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        print(f"{name}: {ended.returncode}\n{ended.stderr[-1500:]}")
        if name == "fsdp":
            assert ended.returncode == 0 and ended.stdout.count("The model is") == 1
            assert largest_difference(launched.tensors(), whole.tensors()) < 1e-6
        else:
            assert ended.returncode != 0 and "DeepSpeed" in ended.stderr and not bench.output.exists()


def test_adapters_are_refused(place: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """In a sentence, whatever the program; and so is DeepSpeed."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert run_to_the_end(place.argv(max_train_steps=1)) == 2
    assert "asks for FSDP, which splits a model" in capsys.readouterr().err
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert run_to_the_end(place.argv(**RUN), train_dreambooth.main) == 2
    told = capsys.readouterr().err
    assert "asks for DeepSpeed, which splits a model" in told and "Traceback" not in told
