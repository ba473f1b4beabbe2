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
from tests import toys

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_toy_sd1(tmp_path_factory.mktemp("toy") / "model")


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
    assert Condition(hidden) == (hidden, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"in_channels": 9},
            "a Stable Diffusion 1.x model whose UNet takes 9 channels instead of 4 (it is for inp",
        ),
        ({"in_channels": 8}, "takes 8 channels instead of 4 (it is for editing by instructions)"),
        ({"use_linear_projection": True}, "a Stable Diffusion 2.x model"),
        ({"addition_embed_type": "text_time"}, "a Stable Diffusion XL model"),
        ({"cross_attention_dim": 99}, "its UNet reads text of width 99, its text encoder writes 32"),
    ],
)
def test_folders_of_other_families_are_named(folder: Path, tmp_path: Path, changes: dict, words: str) -> None:
    shutil.copytree(folder, tmp_path / "other")
    change(tmp_path / "other/unet/config.json", **changes)
    said = refusal(tmp_path / "other")
    assert words in said
    assert said.endswith("base models of these kinds are known: sd1.")


def other_tensors(folder: Path, kind: str) -> dict[str, torch.Tensor]:
    """A toy's tensors, changed to what marks another kind of model."""
    tensors = toys.original_tensors(folder)
    text = {key: tensors.pop(key) for key in list(tensors) if key.startswith("cond_stage_model.")}
    if kind == "inpainting":
        tensors["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(16, 9, 3, 3)
        return tensors | text
    if kind == "no text":
        return tensors
    for key in tensors:
        if key.endswith(("proj_in.weight", "1.proj_out.weight")):
            tensors[key] = tensors[key][..., 0, 0].contiguous()
    if kind == "sd2":
        return tensors | {
            "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": torch.zeros(1)
        }
    tensors["model.diffusion_model.label_emb.0.0.weight"] = torch.zeros(1)
    return tensors | {"conditioner.embedders.0.transformer.text_model.final_layer_norm.bias": torch.zeros(1)}


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("inpainting", "a Stable Diffusion 1.x model whose UNet takes 9 channels"),
        ("sd2", "a Stable Diffusion 2.x model"),
        ("sdxl", "a Stable Diffusion XL model"),
        ("no text", "a UNet without a text encoder"),
    ],
)
def test_files_of_other_families_are_named(
    folder: Path, tmp_path: Path, kind: str, words: str, ending: str
) -> None:
    path = tmp_path / f"a.{ending}"
    tensors = other_tensors(folder, kind)
    if ending == "ckpt":
        torch.save({"state_dict": tensors, **toys.structure_metadata(folder)}, path)
    else:
        toys.save_file(tensors, path, metadata=toys.structure_metadata(folder))
    assert f"{path} is {words}" in refusal(path)


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
        ("user/model", ["unet", "vae", "text_encoder"]),
        ("user/model", ["unet", "text_encoder"]),
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
