"""The same result however an effective batch is cut: at once, accumulated, or shared by two processes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from library.errors import InputError
from tests.runs import WHOLE, Bench, assert_same, draw_two_shapes, largest_difference
from tests.trust.together import run_together

CUTS: dict[str, dict[str, int]] = {
    "batch 4": {"train_batch_size": 4},
    "batch 2, accumulated twice": {"train_batch_size": 2, "gradient_accumulation_steps": 2},
    "batch 1, accumulated four times": {"train_batch_size": 1, "gradient_accumulation_steps": 4},
    "batch 2 on two processes": {"train_batch_size": 2},
    "batch 1, accumulated twice, on two processes": {"train_batch_size": 1, "gradient_accumulation_steps": 2},
}

RUN: dict[str, Any] = {
    "max_train_steps": 20,
    "resolution": 128,
    "enable_bucket": True,
    "min_bucket_reso": 64,
    "shuffle_caption": True,
    "caption_dropout_rate": 0.2,
    "caption_tag_dropout_rate": 0.2,
    "flip_aug": True,
    "learning_rate": 0.0001,
    "network_dim": 4,
    "network_alpha": 4,
    "save_precision": "fp32",
}
LARGE_EPSILON = {"optimizer_args": ["eps=1e-6"]}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_cache: Path) -> Bench:
    """Eleven pictures of two shapes: 64 x 128 makes effective batches of 4 and 3, 128 x 64 one of 4."""
    folder = tmp_path_factory.mktemp("same")
    pictures = draw_two_shapes(folder / "pictures", 7, 4)
    return Bench(toy_model, pictures, folder, toy_cache)


def trained(bench: Bench, cut: str, **changes: Any) -> dict[str, Tensor]:
    """What a run learns whose batches are cut like this."""
    settings = {**RUN, **CUTS[cut], **changes}
    if "processes" not in cut:
        return bench.train(**settings)
    told = run_together(bench.argv(**settings), bench.folder)
    assert "x 2 processes" in told and told.count("The LoRA is") == 1
    return bench.tensors()


@pytest.fixture(scope="module")
def whole(place: Bench) -> dict[str, dict[str, Tensor]]:
    """What batches of 4 learn: with a larger epsilon, with the usual one, and before they have learned."""
    return {
        "large": trained(place.at("large"), "batch 4", **LARGE_EPSILON),
        "usual": trained(place.at("usual"), "batch 4"),
        "start": trained(place.at("start"), "batch 4", max_train_steps=1, learning_rate=1e-30),
    }


OFTEN = "batch 2, accumulated twice", "batch 2 on two processes"
SELDOM = "batch 1, accumulated four times", "batch 1, accumulated twice, on two processes"


@pytest.mark.parametrize("cut", [*OFTEN, *(pytest.param(cut, marks=pytest.mark.long) for cut in SELDOM)])
def test_the_same_lora(place: Bench, whole: dict[str, dict[str, Tensor]], cut: str) -> None:
    tensors = trained(place.at(f"{cut} large"), cut, **LARGE_EPSILON)
    difference = largest_difference(tensors, whole["large"])
    moved = largest_difference(tensors, whole["start"])
    print(f"{cut}: largest difference {difference:.1e} of numbers that moved by up to {moved:.1e}")
    assert difference < 1e-5 < 0.1 * moved


@pytest.mark.long
@pytest.mark.parametrize("cut", OFTEN)
def test_the_same_change_at_the_usual_epsilon(place: Bench, whole, cut: str) -> None:
    tensors = trained(place.at(f"{cut} usual"), cut)
    off = torch.cat([(tensors[name] - whole["usual"][name]).flatten() for name in tensors])
    change = torch.cat([(whole["usual"][name] - whole["start"][name]).flatten() for name in tensors])
    relative = (off.norm() / change.norm()).item()
    print(f"{cut}: relative L2 {relative:.1e}, largest difference {off.abs().max().item():.1e}")
    assert change.norm() > 0 and relative < 1e-3


def test_all_weights_on_two_processes(place: Bench) -> None:
    """train_dreambooth.py with text encoder, average and state; and its state goes on with one process."""
    run = {**WHOLE, **RUN, "network_dim": None, "network_alpha": None, "learning_rate": 1e-5, **LARGE_EPSILON}
    run |= {"max_train_steps": 6, "train_text_encoder": True, "ema": True, "save_every_n_steps": 3, "save_state": True}
    one, two = place.at("whole one"), place.at("whole two")
    unbroken = one.train_all(**run, train_batch_size=4)
    told = run_together(two.argv(**run, train_batch_size=2), two.folder, "train_dreambooth")
    assert told.count("The model is") == 1 and two.names() == one.names()
    difference = largest_difference(two.tensors(), unbroken)
    again = place.at("whole again")
    gone_on = again.train_all(**run, train_batch_size=4, resume=two.output / "toy-step00000003-state")
    after = largest_difference(gone_on, unbroken)
    print(f"all weights, two processes: {difference:.1e}; gone on with one process: {after:.1e}")
    assert difference < 1e-5 and after < 1e-5
    assert largest_difference(unbroken, one.tensors("toy-step00000003")) > 1e-5


def test_class_pictures_and_caches_are_shared_out(place: Bench, tmp_path: Path) -> None:
    """Each process does its part of the caching, and each file is there once."""
    alone, shared = (Bench(place.model, place.pictures, tmp_path / name, tmp_path / f"{name} cache") for name in "ab")
    short = {**RUN, "max_train_steps": 2, "cache_text_encoder_outputs": True, "network_train_unet_only": True}
    alone.train(**short, train_batch_size=4)
    run_together(shared.argv(**short, train_batch_size=2), shared.folder)
    entries = [{path.name for path in bench.cache.rglob("*.safetensors")} for bench in (alone, shared)]
    assert entries[0] == entries[1] and len(entries[0]) > 20
    assert not [path for path in shared.cache.rglob("*") if path.suffix == ".part"]


def test_the_same_run_on_two_processes_twice(place: Bench) -> None:
    runs = [trained(place.at(name), "batch 2 on two processes", max_train_steps=4) for name in ("first", "second")]
    assert_same(*runs)


def test_processes_that_do_not_know_of_each_other(place: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """WORLD_SIZE says two, but this one has been set up alone: two such would write the same files."""
    place.at("lonely").train(max_train_steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="started 2 processes, but accelerate sees 1"):
        place.at("lonely").train(max_train_steps=1)
