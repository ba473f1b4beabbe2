"""Whole runs with every kind of adapter: trained, resumed, written, read by the tools."""

import sys

import pytest
import torch

from library.adapters.changes import read_changes
from library.weights import load_tensors, read_header
from tests.runs import Bench
from tools import generate, inspect_lora, merge_lora

SMALL = {"max_train_steps": 2, "network_dim": 4, "network_preset": "full", "network_args": ["train_norm=True"]}


# One for each form of file; tests/adapters/test_matrix.py has all kinds.
@pytest.mark.parametrize("kind", ["pissa", "lokr", "dora", "boft"])
def test_a_run_with_each_kind(bench: Bench, kind: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Two steps; the file is drawn with, merged and looked into."""
    bench.train(**SMALL, network_module=kind)
    path = bench.output / "toy.safetensors"
    changes = read_changes(path)
    assert len(changes) == 278 + 12 + 108
    assert all(bool(each.of(torch.ones(each.shape)).isfinite().all()) for each in changes.values())
    told = read_header(path)[0]
    assert told["ss_network_module"].startswith(("networks.", "lycoris.")) and "train_norm" in told["ss_network_args"]
    words = ["--model", bench.model, "--lora", f"{path}:0.5"]
    picture, merged = bench.output / "a.png", bench.output / "merged.safetensors"
    drawing = [*words, "--prompt", "a", "--steps", 1, "--precision", "no", "--output", picture]
    for program, arguments in (
        (generate, drawing),
        (merge_lora, [*words, "--output", merged]),
        (inspect_lora, [path]),
    ):
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        assert program.main() == 0
    biases = sum(each.bias is not None for each in changes.values())
    assert f"with {len(changes) + biases} weights changed" in capsys.readouterr().out
    assert picture.is_file() and load_tensors(merged)


@pytest.mark.parametrize("kind", ["lora", "pissa"])
def test_a_resumed_run_is_the_unbroken_one(bench: Bench, kind: str) -> None:
    words = {**SMALL, "network_module": kind, "max_train_steps": 4, "save_state": True, "save_every_n_steps": 2}
    whole = bench.train(**words, output_name="whole")
    state = bench.output / "whole-step00000002-state"
    again = bench.train(**words, output_name="again", resume=state)
    assert whole.keys() == again.keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in whole.items())
