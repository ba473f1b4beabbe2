"""Whole runs with every kind of adapter: trained, resumed, written, read by the tools."""

import sys

import pytest
import torch

import train_network
from library.adapters.changes import read_changes
from library.adapters.hypernetwork_files import read_hypernetwork
from library.errors import InputError
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


def test_a_hypernetwork_from_training_to_the_picture(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Written as .pt on the way and at the end, resumed exactly, drawn with, looked up in the model; never merged."""
    words = {"network_module": "hypernetwork", "max_train_steps": 4, "save_state": True, "save_every_n_steps": 2}
    for more in (
        {"output_name": "whole", "network_args": ["activation_func=mish"], "ema": True},
        {"output_name": "again", "resume": bench.output / "whole-step00000002-state", "ema": True},
        {"output_name": "on", "network_weights": bench.output / "whole.pt", "learning_rate": 1e-12},
    ):
        given = words | {"network_args": ["activation_func=mish"], "sample_every_n_steps": 4} | more
        assert train_network.main(bench.argv(**given)) == 0
    assert {"whole.pt", "whole-step00000002.pt", "whole-ema.pt", "again.pt"} <= bench.names()
    assert not [name for name in bench.names() if name.endswith(".safetensors")]
    names = ("whole", "again", "whole-step00000002", "on")
    files = [read_hypernetwork(bench.output / f"{name}.pt") for name in names]
    numbers = [[each for pair in file.pairs.values() for one in pair for each in one.parameters()] for file in files]
    assert all(torch.equal(one, other) for one, other in zip(numbers[0], numbers[1], strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(numbers[0], numbers[2], strict=True))
    assert all(torch.allclose(one, other, atol=1e-9) for one, other in zip(numbers[0], numbers[3], strict=True))
    assert [file.step for file in files] == [4, 4, 2, 4] and len(files[0].pairs) == 3
    path, picture = bench.output / "whole.pt", bench.output / "a.png"
    drawing = ["--model", bench.model, "--lora", path, "--prompt", "a", "--steps", 1, "--output", picture]
    for program, arguments in ((generate, drawing), (inspect_lora, [path, "--check", bench.model])):
        monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
        assert program.main() == 0
    said = capsys.readouterr().out
    assert "The hypernetwork is" in said and "6 layers found their place" in said and picture.is_file()
    merging = ["--model", bench.model, "--lora", path, "--output", bench.output / "merged.safetensors"]
    monkeypatch.setattr(sys, "argv", ["program", *map(str, merging)])
    with pytest.raises(InputError, match="is a hypernetwork"):
        merge_lora.main()
