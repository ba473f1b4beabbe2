"""Opening a base model: what is recognised, what is refused and how it is said, and a family more."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from library import lookup
from library.errors import InputError
from library.models import family as family_module
from library.models.family import Condition, open_family
from library.models.sd1 import SD1
from library.weights import load_tensors, read_header, save_tensors
from tests import toys
from tests.toy_families import write_toy, write_toy_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_toy_sd1(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def toy_folders(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each family."""
    base = tmp_path_factory.mktemp("folders")
    return {"sd1": folder, **{name: write_toy(base / name, name) for name in ("sd2", "sdxl")}}


@pytest.fixture(scope="module")
def toy_files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A single file of each family."""
    base = tmp_path_factory.mktemp("files")
    files = {name: write_toy_file(base / f"{name}.safetensors", name) for name in ("sd2", "sdxl")}
    return {"sd1": toys.write_single_file(folder, base / "sd1.safetensors"), **files}


def refusal(name: object, vae: str | None = None) -> str:
    """What is said of a model that is not opened."""
    with pytest.raises(InputError) as caught:
        open_family(str(name), vae)
    [sentence] = caught.value.sentences
    return sentence


def change(path: Path, **values: object) -> None:
    """Sets values in a configuration."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_is_opened_by_its_configurations_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("library.models.layout.load_any", lambda path: pytest.fail("weights were read"))
    family = open_family(str(folder))
    assert isinstance(family, SD1)
    assert family.base_name == "model"


def test_the_demo_models_configuration_is_sd1(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "demo" / "model", tmp_path / "demo")
    for part, name in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        (tmp_path / "demo" / part / f"{name}.safetensors").touch()
    family = open_family(str(tmp_path / "demo"))
    assert (family.name, family.default_size) == ("sd1", 128)


def test_the_schedulers_prediction_type(tmp_path: Path) -> None:
    folder = toys.write_toy_sd1(tmp_path, prediction_type="v_prediction")
    assert open_family(str(folder)).prediction_type == "v_prediction"
    shutil.rmtree(folder / "scheduler")
    assert open_family(str(folder)).prediction_type == "epsilon"


def test_the_condition_of_a_family_without_a_pooled_vector() -> None:
    hidden = torch.zeros(1, 77, 4)
    assert Condition(hidden) == (hidden, None, None)


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        (
            "sd1",
            {"in_channels": 9},
            "a Stable Diffusion 1.x model whose UNet takes 9 channels instead of 4 (it is for inpainting)",
        ),
        ("sd1", {"in_channels": 8}, "takes 8 channels instead of 4 (it is for editing by instructions)"),
        ("sd2", {"in_channels": 9}, "a Stable Diffusion 2.x model whose UNet takes 9 channels"),
        ("sd2", {"in_channels": 5}, "takes 5 channels instead of 4 (it is guided by depth)"),
        ("sd2", {"in_channels": 7}, "takes 7 channels instead of 4 (it enlarges pictures)"),
        ("sd2", {"class_embed_type": "projection"}, "a Stable Diffusion 2.x model whose UNet is told pictures"),
        ("sdxl", {"in_channels": 9}, "a Stable Diffusion XL model whose UNet takes 9 channels"),
        ("sd1", {"addition_embed_type": "text_time"}, "a Stable Diffusion XL model without its second text enc"),
        ("sd1", {"cross_attention_dim": 99}, "its UNet reads text of width 99, its text encoder writes 32"),
        ("sd2", {"cross_attention_dim": 99}, "its UNet reads text of width 99, its text encoder writes 24"),
        ("sdxl", {"cross_attention_dim": 99}, "its UNet reads text of width 99, its text encoder writes 24 + 40"),
    ],
)
def test_folders_of_other_models_are_named(
    toy_folders: dict[str, Path], tmp_path: Path, name: str, changes: dict, words: str
) -> None:
    shutil.copytree(toy_folders[name], tmp_path / "other")
    change(tmp_path / "other/unet/config.json", **changes)
    said = refusal(tmp_path / "other")
    assert words in said
    assert said.endswith("base models of these kinds are known: sd1, sd2, sdxl.")


def test_the_refiners_folder_is_named(toy_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(toy_folders["sdxl"], tmp_path / "other")
    shutil.rmtree(tmp_path / "other/text_encoder")
    assert "is the refiner of Stable Diffusion XL, which finishes" in refusal(tmp_path / "other")


def test_a_folder_with_the_schedule_of_edm_is_named(toy_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(toy_folders["sdxl"], tmp_path / "other")
    change(tmp_path / "other/scheduler/scheduler_config.json", _class_name="EDMDPMSolverMultistepScheduler")
    assert "with the noise schedule of EDM" in refusal(tmp_path / "other")


FIRST = "model.diffusion_model.input_blocks.0.0.weight"
LABELS = {f"model.diffusion_model.label_emb.0.{number}.weight": torch.zeros(64, 40) for number in (0, 2)}
CLIP_G = "conditioner.embedders.0.model.transformer.resblocks.0.mlp.c_fc.weight"
# Toy, beginnings of the names that are taken away, what is put in, and what is said of the file.
OTHER_FILES = {
    "inpainting 1": ("sd1", "-", {FIRST: torch.zeros(16, 9, 3, 3)}, "a Stable Diffusion 1.x model whose UNet takes 9"),
    "inpainting 2": ("sd2", "-", {FIRST: torch.zeros(16, 9, 3, 3)}, "a Stable Diffusion 2.x model whose UNet takes 9"),
    "inpainting XL": ("sdxl", "-", {FIRST: torch.zeros(16, 9, 3, 3)}, "a Stable Diffusion XL model whose UNet takes 9"),
    "depth": ("sd2", "-", {FIRST: torch.zeros(16, 5, 3, 3)}, "a Stable Diffusion 2.x model whose UNet takes 5"),
    "unCLIP": (
        "sd2",
        "-",
        LABELS | {"embedder.model.visual.proj": torch.zeros(1)},
        "a Stable Diffusion 2.x model for variations of pictures (unCLIP)",
    ),
    "refiner": ("sdxl", "conditioner.", {CLIP_G: torch.zeros(160, 40)}, "the refiner of Stable Diffusion XL"),
    "playground": ("sdxl", "-", {"edm_mean": torch.zeros(4)}, "a Stable Diffusion XL model with the noise sched"),
    "no text 1": ("sd1", "cond_stage_model.", {}, "a UNet without a text encoder"),
    "no text XL": ("sdxl", "conditioner.", {}, "a UNet without a text encoder"),
    "half XL": ("sdxl", "conditioner.embedders.1.", {}, "a UNet without a text encoder"),
}


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_files_of_other_models_are_named(toy_files: dict[str, Path], tmp_path: Path, kind: str, ending: str) -> None:
    name, lost, more, words = OTHER_FILES[kind]
    metadata, tensors = read_header(toy_files[name])[0], load_tensors(toy_files[name])
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(lost)} | more
    path = tmp_path / f"a.{ending}"
    if ending == "ckpt":
        torch.save({"state_dict": tensors, **metadata}, path)
    else:
        save_tensors(path, tensors, metadata)
    said = refusal(path)
    assert f"{path} is {words}" in said
    assert said.endswith("base models of these kinds are known: sd1, sd2, sdxl.")


def test_the_refiners_vae_may_be_used(toy_files: dict[str, Path], tmp_path: Path) -> None:
    metadata, tensors = read_header(toy_files["sdxl"])[0], load_tensors(toy_files["sdxl"])
    kept = {key: tensor for key, tensor in tensors.items() if not key.startswith("conditioner.")}
    save_tensors(tmp_path / "a.safetensors", kept | {CLIP_G: torch.zeros(160, 40)}, metadata)
    family = open_family(str(toy_files["sdxl"]), vae=str(tmp_path / "a.safetensors"))
    assert family.fingerprint("vae") == open_family(str(toy_files["sdxl"])).fingerprint("vae")


def test_folders_that_are_no_models(folder: Path, tmp_path: Path) -> None:
    assert "a folder without unet/config.json, so no model" in refusal(tmp_path)
    (tmp_path / "x.safetensors").touch()
    assert f"(a file in it may be meant, such as {tmp_path / 'x.safetensors'})" in refusal(tmp_path)
    assert "a VAE and no base model" in refusal(folder / "vae")
    (tmp_path / "flux" / "transformer").mkdir(parents=True)
    (tmp_path / "flux" / "transformer" / "config.json").write_text("{}")
    assert "a model with a transformer" in refusal(tmp_path / "flux")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_part_without_weights_is_named(folder: Path, tmp_path: Path, part: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for file in (other / part).glob("*.safetensors"):
        file.unlink()
    assert f"{other} has no {part.replace('_', ' ')} (weights not found in {part}/)." in refusal(other)


def test_a_broken_configuration_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other/unet/config.json").write_text("{")
    assert "unet/config.json: the configuration cannot be read" in refusal(tmp_path / "other")
    (tmp_path / "other/unet/config.json").write_text("[]")
    assert "is no table" in refusal(tmp_path / "other")


@pytest.mark.parametrize(
    "name", ["", "missing.safetensors", "user/missing.ckpt", "/no/such/folder", "mymodel", "./a/b"]
)
def test_a_missing_model_never_asks_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family_module, "download", lambda *_: pytest.fail("the hub was asked"))
    assert f"The base model {name!r} is not there; name a folder" in refusal(name)


def test_a_missing_vae_is_named(folder: Path) -> None:
    assert "The VAE 'missing.pt' is not there" in refusal(folder, vae="missing.pt")


def test_a_hub_id_is_fetched_without_what_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(family_module, "download", lambda name, parts: asked.append((name, parts)) or folder)
    assert open_family("user/model").base_name == "user/model"
    hashes = open_family("user/model", vae="user/vae").base_hashes()
    assert hashes["ss_vae_name"] == "user/vae"
    assert asked == [
        ("user/model", ["unet", "vae", "text_encoder", "text_encoder_2"]),
        ("user/model", ["unet", "text_encoder", "text_encoder_2"]),
        ("user/vae", ["vae"]),
    ]


def test_a_family_more_is_a_line_more(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(SD1):
        """The table's first family that recognises a model opens it."""

        name = "other"

    monkeypatch.setattr(family_module, "Other", Other, raising=False)
    monkeypatch.setitem(lookup.FAMILIES, "other", "library.models.family:Other")
    assert open_family(str(folder)).name == "sd1"
    monkeypatch.delitem(lookup.FAMILIES, "sd1")
    assert open_family(str(folder)).name == "other"


def test_the_tables_import_nothing_heavy() -> None:
    program = "import library.lookup, library.errors, sys; print({'torch', 'diffusers'} & sys.modules.keys())"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "set()"
