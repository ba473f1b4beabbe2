"""A trained model on disk: what was trained, what was not, what it says of itself, and a look back."""

from pathlib import Path

import pytest
import torch

from library.models import saving
from library.models.checkpoints import part_tensors
from library.models.family import open_family
from library.models.saving import save_model
from library.weights import read_header
from tests.toy_families import write_toy, write_toy_file


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A toy of each family."""
    base = tmp_path_factory.mktemp("bases")
    return {name: write_toy(base / name, name) for name in ("sd1", "sd2", "sdxl")}


def trained(family) -> dict:
    """A UNet that was moved."""
    return {"unet": {name: tensor + 0.01 for name, tensor in part_tensors(family.load_unet(torch.float32)).items()}}


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
@pytest.mark.parametrize("target", ["tuned.safetensors", "tuned"])
def test_both_layouts_open_as_the_same_model(folders, tmp_path: Path, name: str, target: str) -> None:
    family = open_family(str(folders[name]))
    parts = trained(family)
    save_model(tmp_path / target, family, parts, torch.float32, {"modelspec.title": "mine"})
    again = open_family(str(tmp_path / target))
    assert again.name == name
    for part in ("unet", "vae", *family.text_parts):
        wanted = parts.get(part) or family.part_tensors(part)
        found = again.part_tensors(part)
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert not torch.equal(again.part_tensors("unet")["conv_in.weight"], family.part_tensors("unet")["conv_in.weight"])
    if target.endswith("safetensors"):
        assert read_header(tmp_path / target)[0]["modelspec.title"] == "mine"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_file_of_half_the_size(folders, tmp_path: Path, dtype: torch.dtype) -> None:
    family = open_family(str(folders["sd1"]))
    save_model(tmp_path / "half.safetensors", family, trained(family), dtype, {})
    _, entries = read_header(tmp_path / "half.safetensors")
    assert {kind for kind, _ in entries.values()} == {{torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]}


@pytest.mark.parametrize("target", ["tuned.safetensors", "tuned"])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_what_the_settings_said_of_the_model_is_written(folders, tmp_path: Path, name: str, target: str) -> None:
    """Trained to predict v from pure noise on, it goes on to say so."""
    family = open_family(str(folders[name]))
    family.prediction_type, family.zero_terminal_snr = "v_prediction", True
    save_model(tmp_path / target, family, trained(family), torch.float32, {})
    again = open_family(str(tmp_path / target))
    assert (again.prediction_type, again.zero_terminal_snr) == ("v_prediction", True)


def test_another_vae_comes_along(folders, tmp_path: Path) -> None:
    vae = write_toy_file(tmp_path / "other.safetensors", "sd1", seed=9)
    family = open_family(str(folders["sd1"]), str(vae))
    save_model(tmp_path / "tuned", family, trained(family), torch.float32, {})
    found, own = open_family(str(tmp_path / "tuned")).part_tensors("vae"), open_family(str(vae)).part_tensors("vae")
    assert all(torch.equal(found[key], own[key]) for key in own)


def test_a_model_that_was_written_wrongly_is_noticed(folders, tmp_path: Path, monkeypatch) -> None:
    family = open_family(str(folders["sd1"]))
    parts = trained(family)
    write = saving.write_file

    def careless(path, name, given, dtype, metadata) -> None:
        given["unet"]["conv_out.bias"] = given["unet"]["conv_out.bias"] * 1.0001
        given = {part: {key: tensor.clone() for key, tensor in tensors.items()} for part, tensors in given.items()}
        given["unet"]["conv_in.bias"][0] += 1
        write(path, name, given, dtype, metadata)

    monkeypatch.setattr(saving, "write_file", careless)
    with pytest.raises(RuntimeError, match="was not written rightly: unet conv_in.bias differs from memory"):
        save_model(tmp_path / "tuned.safetensors", family, parts, torch.float32, {})
    monkeypatch.setattr(saving, "write_file", lambda *given: write(*given[:-1], {**given[-1], **wrong}))
    wrong = {"modelspec.prediction_type": "v"}
    with pytest.raises(RuntimeError, match="its kind"):
        save_model(tmp_path / "tuned.safetensors", family, parts, torch.float32, {})
