"""tools/merge_lora.py: LoRAs into a model and into each other, and what is refused."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from library.adapters.keys import read_adapter
from library.adapters.kinds import Options
from library.adapters.made import made_metadata
from library.adapters.metadata import TrainingFacts, save_adapter
from library.adapters.network import attach
from library.errors import InputError
from library.models.family import open_family
from library.weights import read_header
from tests.adapters.small import shake
from tests.tools.lora_files import run, write_lora
from tests.toy_families import write_toy
from tools import merge_lora

QUERY = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("merge")
    model = write_toy(base / "model", "sd1")
    write_lora(base / "a.safetensors", model, 4, seed=1)
    write_lora(base / "b.safetensors", model, 3, seed=2)
    return base


@pytest.mark.parametrize("target", ["out.safetensors", "out"])
def test_into_a_model(folder: Path, tmp_path: Path, monkeypatch, capsys, target: str) -> None:
    given = [f"{folder / 'a.safetensors'}:0.5", f"{folder / 'b.safetensors'}:-2:mid=0.25,in=0"]
    output = tmp_path / target
    assert run(monkeypatch, merge_lora, "--model", folder / "model", "--lora", *given, "--output", output) == 0
    assert "204 weights changed by a.safetensors x 0.5 + b.safetensors x -2 (mid=0.25,in=0)" in capsys.readouterr().out
    key = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    before, after = (open_family(str(each)).part_tensors("unet")[key] for each in (folder / "model", output))
    a, b = (read_adapter(folder / f"{each}.safetensors")[QUERY].delta() for each in "ab")
    torch.testing.assert_close(after, before + 0.5 * a - 0.5 * b, rtol=1e-5, atol=1e-6)
    if output.is_file():
        metadata = read_header(output)[0]
        assert metadata["modelspec.architecture"] == "stable-diffusion-v1"
        assert "a.safetensors x 0.5" in metadata["modelspec.description"]
        assert metadata["modelspec.merged_from"] == "model, a.safetensors, b.safetensors"


def test_with_each_other(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    given = [f"{folder / 'a.safetensors'}:1", f"{folder / 'b.safetensors'}:-0.5"]
    sums = {}
    for name, words in (("exact", ()), ("small", ("--dim", 5)), ("half", ("--save_precision", "fp16"))):
        sums[name] = tmp_path / f"{name}.safetensors"
        assert run(monkeypatch, merge_lora, "--lora", *given, "--output", sums[name], *words) == 0
    printed = capsys.readouterr().out
    assert "204 layers of rank 7 from a.safetensors x 1 + b.safetensors x -0.5" in printed
    assert "of the whole change lost at rank 5" in printed
    a, b = (read_adapter(folder / f"{each}.safetensors") for each in "ab")
    exact, small = read_adapter(sums["exact"]), read_adapter(sums["small"])
    for stem, layer in exact.items():
        expected = a[stem].delta() - 0.5 * b[stem].delta()
        torch.testing.assert_close(layer.delta(), expected, rtol=1e-5, atol=1e-6)
    values = torch.linalg.svdvals(exact[QUERY].delta())
    missed = (small[QUERY].delta() - exact[QUERY].delta()).norm()
    torch.testing.assert_close(missed, values[5:].norm(), rtol=1e-3, atol=1e-5)
    assert {layer.rank for layer in small.values()} == {5}
    metadata = read_header(sums["exact"])[0]
    assert metadata["ss_network_dim"] == "7" and metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert {kind for kind, _ in read_header(sums["half"])[1].values()} == {"F16"}


@pytest.fixture(scope="module")
def mixed(folder: Path) -> dict[str, Path]:
    """Files of several kinds for the toy, all that learns moved."""
    family = open_family(str(folder / "model"))
    unet, found = family.load_unet(torch.float32), {}
    layers = {"unet": family.adapter_layers(unet, "unet")}
    for kind in ("lokr", "dora", "boft"):
        network = attach(kind, {"unet": unet}, layers, 4, 4.0, 0, Options())
        shake(network, 0.1)
        found[kind] = folder / f"{kind}.safetensors"
        facts = TrainingFacts(kind, "toy", base_model_version="sd_v1", architecture="stable-diffusion-v1")
        save_adapter(found[kind], network.export(), made_metadata(facts, "drawn"))
        network.detach()
    return found


def test_mixed_kinds_become_one_lora_of_a_rank(folder: Path, mixed, tmp_path: Path, monkeypatch, capsys) -> None:
    """Every layer is the nearest to W-based changes as merging into the model makes them."""
    given = [folder / "a.safetensors", f"{mixed['lokr']}:0.5", f"{mixed['dora']}:-1"]
    output = tmp_path / "out.safetensors"
    words = ["--lora", *given, "--dim", 6, "--base", folder / "model", "--output", output]
    assert run(monkeypatch, merge_lora, *words) == 0
    printed = capsys.readouterr().out
    for name in ("a.safetensors", "lokr.safetensors", "dora.safetensors"):
        assert f"of the change of {name} lost at rank 6" in printed
    assert "of the whole change lost" in printed and "204 layers of rank 6 from a.safetensors x 1 + lokr" in printed
    merged = tmp_path / "merged"
    assert run(monkeypatch, merge_lora, "--model", folder / "model", "--lora", *given, "--output", merged) == 0
    key = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    before, after = (open_family(str(each)).part_tensors("unet")[key] for each in (folder / "model", merged))
    left, values, right = torch.linalg.svd(after - before)
    expected = (left[:, :6] * values[:6]) @ right[:6]
    torch.testing.assert_close(read_adapter(output)[QUERY].delta(), expected, rtol=1e-3, atol=1e-4)


def test_any_kind_becomes_a_lora_alone(mixed, tmp_path: Path, monkeypatch, capsys) -> None:
    """The whole differences that BOFT is written as need no base model."""
    words = ["--lora", mixed["boft"], "--dim", 8, "--output", tmp_path / "lora.safetensors"]
    assert run(monkeypatch, merge_lora, *words) == 0
    assert "of the change of boft.safetensors lost at rank 8" in capsys.readouterr().out
    assert {layer.rank for layer in read_adapter(tmp_path / "lora.safetensors").values()} == {8}


def test_mixed_kinds_without_a_rank_or_a_base_are_refused(folder: Path, mixed, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "out.safetensors"
    given = ["--lora", folder / "a.safetensors", mixed["lokr"], "--output", output]
    with pytest.raises(InputError, match="192 layers of LoKr, and only plain LoRA can be merged exactly. Give --dim"):
        run(monkeypatch, merge_lora, *given)
    with pytest.raises(InputError, match="give --base, its base model"):
        run(monkeypatch, merge_lora, *given, "--dim", 4)
    with pytest.raises(InputError, match="--base is for adapters that become a LoRA of a rank; give --dim too"):
        run(monkeypatch, merge_lora, *given, "--base", folder / "model")
    assert not output.exists()


def test_wrong_input(folder: Path, tmp_path: Path) -> None:
    path, output = str(folder / "a.safetensors"), str(tmp_path / "x.safetensors")
    for words, complaint in (
        (["--output", output], "nothing to merge"),
        (["--lora", "nowhere.safetensors", "--output", output], "there is no file nowhere.safetensors"),
        (["--lora", path, "--output", path], "is there already"),
        (["--lora", path, "--output", str(tmp_path / "folder")], "must end in .safetensors"),
        (["--lora", path, "--model", "m", "--dim", "4", "--output", output], "not together with --model"),
        (["--lora", path, "--model", "m", "--output", str(tmp_path / "x.ckpt")], "not written as a pickle"),
        (["--lora", path, "--model", "m", "--output", str(folder / "model")], "is there already"),
        (["--lora", f"{path}:1:in=x", "--output", output], "block weight 'in=x'"),
    ):
        with pytest.raises(InputError, match=complaint):
            merge_lora.parse_arguments(words)


def test_a_refusal_ends_with_status_2_and_nothing_written(folder: Path, tmp_path: Path) -> None:
    xl = write_lora(tmp_path / "xl.safetensors", write_toy(tmp_path / "xl", "sdxl"))
    words = ["--model", folder / "model", "--lora", xl, "--output", tmp_path / "merged"]
    done = subprocess.run([sys.executable, merge_lora.__file__, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "another base model" in done.stderr
    assert not (tmp_path / "merged").exists()
