"""tools/resize_lora.py: smaller files, what they lost, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from library.adapters.keys import read_adapter
from library.errors import InputError
from library.weights import read_header, save_tensors
from tests.tools.lora_files import run, write_lora
from tests.toy_families import write_toy
from tools import resize_lora

QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resize")
    return write_lora(folder / "mine.safetensors", write_toy(folder / "model", "sd1"), 8, dtype=torch.float16)


def test_a_fixed_rank(lora: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "small.safetensors"
    assert run(monkeypatch, resize_lora, lora, "--dim", 4, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "204 layers, mean rank 8.0 to 4.0; 0." in printed and "of the whole change lost" in printed
    before, after = read_adapter(lora), read_adapter(output)
    assert {layer.rank for layer in after.values()} == {4} and after.keys() == before.keys()
    metadata, entries = read_header(output)
    assert metadata["ss_network_dim"] == "4" and metadata["ss_output_name"] == "small"
    assert {kind for kind, _ in entries.values()} == {"F16"}, "as the old file"
    missed = sum(float((before[stem].delta() - after[stem].delta()).square().sum()) for stem in before)
    whole = sum(float(layer.delta().square().sum()) for layer in before.values())
    assert float(printed.split("; ")[1].split()[0]) == pytest.approx((missed / whole) ** 0.5, abs=1e-3)


@pytest.mark.parametrize("words", [("--ratio", 2), ("--frobenius", 0.9), ("--cumulative", 0.8)])
def test_a_rank_for_each_layer(lora: Path, tmp_path: Path, monkeypatch, capsys, words: tuple) -> None:
    output = tmp_path / "small.safetensors"
    assert run(monkeypatch, resize_lora, lora, *words, "--dim", 7, "--verbose", "--output", output) == 0
    layers = read_adapter(output)
    assert len({layer.rank for layer in layers.values()}) > 1 and max(layer.rank for layer in layers.values()) <= 7
    assert len({layer.alpha for layer in layers.values()}) == 1, "one alpha in the whole file"
    assert capsys.readouterr().out.count("of its change lost") == 204
    assert read_header(output)[0]["ss_network_dim"] == "Dynamic"


def test_every_mistake_is_said_at_once(lora: Path, tmp_path: Path) -> None:
    words = ["nowhere.safetensors", "--output", tmp_path, "--conv_dim", 0]
    done = subprocess.run([sys.executable, resize_lora.__file__, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("error: ") == 4 and "Traceback" not in done.stderr
    for wrong in (("--ratio", 0.5), ("--frobenius", 1.5), ("--cumulative", 0), ("--ratio", 2, "--frobenius", 0.5)):
        with pytest.raises(InputError):
            resize_lora.parse_arguments([str(lora), "--output", str(tmp_path / "x.safetensors"), *map(str, wrong)])
    with pytest.raises(InputError, match="is there already"):
        resize_lora.parse_arguments([str(lora), "--dim", "2", "--output", str(lora)])


def test_other_kinds_are_refused_with_the_way_that_leads_on(tmp_path: Path) -> None:
    leaves = {"lokr_w1": torch.ones(2, 2), "lokr_w2": torch.ones(3, 4), "alpha": torch.tensor(1.0)}
    save_tensors(tmp_path / "a.safetensors", {f"{QUERY}.{leaf}": tensor for leaf, tensor in leaves.items()})
    words = [tmp_path / "a.safetensors", "--dim", 2, "--output", tmp_path / "b.safetensors"]
    done = subprocess.run([sys.executable, resize_lora.__file__, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("error: ") == 1
    assert "has 1 layer of LoKr" in done.stderr and "tools/extract_lora.py" in done.stderr
