"""tools/convert_model.py: from layout to layout and back bit for bit, LoRAs merged, graphs, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from library.adapters.combining import Share
from library.errors import InputError
from library.models.checkpoints import structure_metadata, write_file
from library.models.family import open_family
from library.models.graphs import Predictor, compare
from library.models.merging import merge_into, merged_unet
from library.weights import read_header
from tests.house import ROOT
from tests.tools.lora_files import run, write_lora
from tests.toy_families import toy_parts, write_toy, write_toy_file
from tools import convert_model

FAMILIES = ("sd1", "sd2", "sdxl")


def write_mixed_file(path: Path, family: str) -> Path:
    """A checkpoint whose parts have three number formats, as a VAE often stays in float32."""
    parts, configs = toy_parts(family, "v_prediction")
    kinds = {"unet": torch.float16, "text_encoder": torch.bfloat16}
    mixed = {
        part: {key: tensor.to(kinds.get(part, torch.float32)) for key, tensor in tensors.items()}
        for part, tensors in parts.items()
    }
    words = structure_metadata(configs, family) | {"modelspec.prediction_type": "v", "modelspec.author": "somebody"}
    write_file(path, family, mixed, None, words)
    return path


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same tensors to the last bit, in the same formats."""
    first, second = load_file(one), load_file(other)
    formats = [{key: kind for key, (kind, _) in read_header(path)[1].items()} for path in (one, other)]
    return formats[0] == formats[1] and all(torch.equal(tensor, second[key]) for key, tensor in first.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_again_changes_no_bit(tmp_path: Path, monkeypatch, capsys, family: str) -> None:
    file = write_mixed_file(tmp_path / "file.safetensors", family)
    folder, back, again = tmp_path / "folder", tmp_path / "back.safetensors", tmp_path / "again"
    assert run(monkeypatch, convert_model, file, folder, "--to", "diffusers") == 0
    assert run(monkeypatch, convert_model, folder, back, "--to", "safetensors") == 0
    assert run(monkeypatch, convert_model, back, again, "--to", "diffusers") == 0
    assert same(file, back) and len(load_file(file)) > 900
    assert {kind for kind, _ in read_header(back)[1].values()} == {"F16", "BF16", "F32"}
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    for name in names:
        assert (folder / name).read_bytes() == (again / name).read_bytes(), name
    assert open_family(str(back)).prediction_type == open_family(str(again)).prediction_type == "v_prediction"
    assert f"written: {folder}" in capsys.readouterr().out


def test_the_demo_goes_there_and_back(tmp_path: Path, monkeypatch) -> None:
    """A real model, with its own words and its configurations."""
    file, folder = tmp_path / "demo.safetensors", tmp_path / "demo"
    assert run(monkeypatch, convert_model, ROOT / "demo" / "model", file, "--to", "safetensors") == 0
    assert run(monkeypatch, convert_model, file, folder, "--to", "diffusers") == 0
    before, after = open_family(str(ROOT / "demo" / "model")), open_family(str(folder))
    for part in ("unet", "vae", "text_encoder"):
        mine, theirs = before.part_tensors(part), after.part_tensors(part)
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
        assert all(torch.equal(mine[key], theirs[key]) and mine[key].dtype == theirs[key].dtype for key in mine)
    assert (after.latent_scale, after.default_size) == (before.latent_scale, before.default_size)


def test_precision_vae_and_words(tmp_path: Path, monkeypatch) -> None:
    file = write_mixed_file(tmp_path / "a.safetensors", "sd1")
    other = write_toy(tmp_path / "other", "sd1", seed=5)
    half = tmp_path / "half.safetensors"
    words = ["--to", "safetensors", "--precision", "bf16", "--vae", other]
    assert run(monkeypatch, convert_model, file, half, *words) == 0
    metadata, entries = read_header(half)
    assert {kind for kind, _ in entries.values()} == {"BF16"}
    assert metadata["modelspec.author"] == "somebody" and metadata["modelspec.architecture"] == "stable-diffusion-v1"
    found, vae = open_family(str(half)).part_tensors("vae"), open_family(str(other)).part_tensors("vae")
    assert all(torch.equal(found[key], tensor.bfloat16()) for key, tensor in vae.items())
    unet = open_family(str(file)).part_tensors("unet")
    assert all(
        torch.equal(open_family(str(half)).part_tensors("unet")[key], unet[key].bfloat16()) for key in list(unet)[:9]
    )


def test_pickles_are_read_and_nothing_else_in_them(tmp_path: Path, monkeypatch) -> None:
    file = write_toy_file(tmp_path / "a.safetensors", "sd1")
    tensors = load_file(file)
    words = {"easel.structure": read_header(file)[0]["easel.structure"]}
    torch.save({"state_dict": tensors | {"model_ema.decay": torch.ones(())}, **words}, tmp_path / "a.ckpt")
    assert run(monkeypatch, convert_model, tmp_path / "a.ckpt", tmp_path / "b.safetensors", "--to", "safetensors") == 0
    assert same(file, tmp_path / "b.safetensors")


def model_and_lora(folder: Path) -> tuple[Path, Path]:
    """A toy model and a LoRA for it."""
    model = write_toy(folder / "model", "sd1")
    return model, write_lora(folder / "lora.safetensors", model)


def test_loras_are_merged_as_merge_lora_does(tmp_path: Path, monkeypatch, capsys) -> None:
    model, lora = model_and_lora(tmp_path)
    output = tmp_path / "merged"
    words = ["--to", "diffusers", "--lora", f"{lora}:0.5"]
    assert run(monkeypatch, convert_model, model, output, *words) == 0
    assert "204 weights changed by lora.safetensors x 0.5" in capsys.readouterr().out
    merge_into(open_family(str(model)), [Share(lora, 0.5)], tmp_path / "expected", None, {})
    name = "unet/diffusion_pytorch_model.safetensors"
    assert same(output / name, tmp_path / "expected" / name) and not same(output / name, model / name)


def test_a_graph_with_the_lora_in_it(tmp_path: Path, monkeypatch, capsys) -> None:
    model, lora = model_and_lora(tmp_path)
    output = tmp_path / "unet.onnx"
    words = ["--to", "onnx", "--lora", f"{lora}:0.5"]
    assert run(monkeypatch, convert_model, model, output, *words) == 0
    printed = capsys.readouterr().out
    assert "192 weights changed by lora.safetensors x 0.5" in printed
    assert "onnxruntime and torch agree: their answers differ by" in printed
    family = open_family(str(model))
    unet, _ = merged_unet(family, [Share(lora, 0.5)], torch.float32)
    assert compare(output, Predictor(family, unet)).difference < 1e-5
    assert compare(output, Predictor(family, family.load_unet(torch.float32))).difference > 1e-3
    told = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"]).get_modelmeta()
    assert told.custom_metadata_map["prediction_type"] == "epsilon"


def test_wrong_input(tmp_path: Path) -> None:
    model = write_toy(tmp_path / "model", "sd1")
    (tmp_path / "there.onnx").touch()
    for words, complaint in (
        (["x", "--to", "safetensors"], "must end in .safetensors"),
        (["x.ckpt", "--to", "diffusers"], "is the name of a file"),
        (["x", "--to", "onnx"], "must end in .onnx"),
        (["there.onnx", "--to", "onnx"], "is there already; give --overwrite"),
        (["model", "--to", "diffusers", "--overwrite"], "is the model itself"),
        (["x.onnx", "--to", "onnx", "--vae", "v"], "of the UNet alone"),
        (["x.onnx", "--to", "onnx", "--precision", "bf16"], "use fp32 or fp16"),
        (["x", "--to", "diffusers", "--lora", "gone.safetensors"], "there is no file gone.safetensors"),
        (["x", "--to", "ckpt"], "invalid choice"),
    ):
        output, *rest = words
        with pytest.raises(InputError, match=complaint):
            convert_model.parse_arguments([str(model), str(tmp_path / output), *rest])


def test_a_refusal_ends_with_status_2_and_nothing_written(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "odd.safetensors")
    words = [str(tmp_path / "odd.safetensors"), str(tmp_path / "out"), "--to", "diffusers"]
    done = subprocess.run([sys.executable, convert_model.__file__, *words], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["odd.safetensors"]


def test_overwriting_leaves_what_else_lies_in_the_folder(tmp_path: Path, monkeypatch) -> None:
    file, folder = write_toy_file(tmp_path / "a.safetensors", "sd1"), write_toy(tmp_path / "old", "sd1", seed=9)
    (folder / "notes.txt").write_text("mine")
    shutil.copy(folder / "unet" / "config.json", tmp_path / "config.json")
    assert run(monkeypatch, convert_model, file, folder, "--to", "diffusers", "--overwrite") == 0
    assert (folder / "notes.txt").read_text() == "mine"
    name = "conv_in.weight"
    found, expected = (open_family(str(each)).part_tensors("unet")[name] for each in (folder, file))
    assert torch.equal(found, expected)
    assert json.loads((folder / "unet" / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"
