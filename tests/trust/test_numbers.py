"""Losses and gradients that are no numbers: whose they are is said, nothing good is lost, nothing bad is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from library.data.entries import read_entry, write_entry
from library.train.health import DEAD
from library.weights import load_tensors
from tests.runs import Bench, assert_same, draw_pictures, run_to_the_end
from tests.trust.together import run_together

RUN: dict[str, Any] = {
    "max_train_steps": 6,
    "train_batch_size": 1,
    "network_train_text_encoder_only": True,
    "save_every_n_steps": 1,
    "save_state": True,
    "log_every_n_steps": 10,  # so that what is wrong would be seen late
}


@pytest.fixture
def spoiled(toy_model: Path, tmp_path: Path) -> Callable[[int], Bench]:
    """A place to train where the cached latents of the first pictures are no numbers, as by a broken VAE."""

    def spoil(count: int) -> Bench:
        bench = Bench(toy_model, draw_pictures(tmp_path / "pictures", 4), tmp_path, tmp_path / "cache")
        names = ("mean", "logvar")
        for number in range(4):
            alone = draw_pictures(tmp_path / f"{number}", 1, first=number)
            entries = set(bench.cache.rglob("*.safetensors"))
            Bench(toy_model, alone, tmp_path / "aside", bench.cache).train(max_train_steps=1, train_batch_size=1)
            (entry,) = {path for path in bench.cache.rglob("*.safetensors") if "latents" in path.parts} - entries
            if number < count:
                found = read_entry(entry, names)
                assert found
                write_entry(entry, {"mean": found[0] * torch.nan, "logvar": found[1]})
        return bench

    return spoil


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """Whether there are tensors, of numbers alone."""
    return bool(tensors) and all(bool(tensor.isfinite().all()) for tensor in tensors.values())


def test_a_loss_that_is_no_number_ends_the_run(spoiled, capsys: pytest.CaptureFixture[str]) -> None:
    bench = spoiled(1)
    capsys.readouterr()
    assert run_to_the_end(bench.argv(**RUN)) == 1
    complaint = capsys.readouterr().err.replace("\n", " ")
    assert f"the loss is nan with {bench.pictures / '000.png'}: the numbers left their range" in complaint
    assert "Traceback" not in complaint
    step = int(complaint.split("error: step ")[1].split(":")[0])
    files = sorted(bench.output.glob("toy-step*.safetensors"))
    assert [path.stem for path in files] == [f"toy-step{number:08d}" for number in range(1, step)]
    assert all(all_finite(load_tensors(path)) for path in files)
    if step > 1:
        assert f"resume = \"auto\" goes on from {bench.output / f'toy-step{step - 1:08d}-state'}" in complaint


def test_such_steps_may_be_left_out(spoiled, capsys: pytest.CaptureFixture[str]) -> None:
    """The run then ends well, and one that was stopped on its way ends the same."""
    bench = spoiled(1)
    tensors = bench.train(**RUN, skip_nonfinite_steps=1)
    told = capsys.readouterr().err
    assert told.count(f"the loss is nan with {bench.pictures / '000.png'}; the weights stay as they were") in (1, 2)
    assert all_finite(tensors)
    assert all(all_finite(load_tensors(path)) for path in bench.output.rglob("*.safetensors"))
    again = bench.at("again").train(**RUN, skip_nonfinite_steps=1, resume=bench.output / "toy-step00000003-state")
    assert_same(again, tensors)
    assert all(step != value for step, value in bench.scalars()["loss/current"]) and len(bench.losses()) in (4, 5)


def test_but_not_too_many_in_a_row(spoiled, capsys: pytest.CaptureFixture[str]) -> None:
    bench = spoiled(4)
    assert run_to_the_end(bench.argv(**RUN, skip_nonfinite_steps=2)) == 1
    assert "in 3 steps in a row" in capsys.readouterr().err.replace("\n", " ")
    assert not (bench.output / "toy-step00000003.safetensors").exists()


def test_a_rate_that_is_far_too_high(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights run away; the file before is whole, and no other is written."""
    assert run_to_the_end(bench.argv(**RUN | {"learning_rate": 1e30, "max_train_steps": 9})) == 1
    assert "the numbers left their range" in capsys.readouterr().err.replace("\n", " ")
    assert all(all_finite(load_tensors(path)) for path in bench.output.rglob("*.safetensors"))
    assert not (bench.output / "toy.safetensors").exists()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_in_half_precision_too(spoiled, precision: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench = spoiled(4)
    bench = Bench(bench.model, bench.pictures, bench.folder, bench.cache)
    no_vae = {"no_half_vae": True, "mixed_precision": precision}
    assert run_to_the_end(bench.argv(**RUN, **no_vae)) == 1
    assert "step 1: the loss is nan with" in capsys.readouterr().err.replace("\n", " ")
    assert not list(bench.output.glob("*.safetensors"))


def test_two_processes_end_together(spoiled) -> None:
    """The one that has read the picture names it; steps are left out by both."""
    bench = spoiled(1)
    told = run_together(bench.argv(**RUN, skip_nonfinite_steps=1), bench.folder)
    assert all_finite(bench.tensors())
    with pytest.raises(AssertionError, match="loss is nan with .*000.png") as failure:
        run_together(bench.at("strict").argv(**RUN), bench.folder / "strict")
    assert str(failure.value).startswith("[1, 1]")
    assert "the loss is nan" in told


def test_a_dead_run_is_said(bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With masks that leave nothing of any picture there is nothing to learn."""
    pictures = draw_pictures(tmp_path / "masked", 2)
    for path in list(pictures.glob("*.png")):
        Image.new("L", (64, 64), 0).save(path.with_name(f"{path.stem}-masklabel.png"))
    dead = Bench(bench.model, pictures, bench.folder, bench.cache)
    dead.train(**RUN | {"max_train_steps": DEAD + 2, "save_every_n_steps": None}, masked_loss=True)
    told = capsys.readouterr().err.replace("\n", " ")
    assert "the gradients have been exactly 0" in told and "this run learns nothing" in told
    bench.at("alive").train(**RUN | {"max_train_steps": DEAD + 2, "save_every_n_steps": None})
    assert "learns nothing" not in capsys.readouterr().err
