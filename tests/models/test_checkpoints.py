"""Whole models on disk: each family as a file and as a folder is opened as the same model, and has the usual names."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor

from library.models.checkpoints import (
    Parts,
    original_tensors,
    part_tensors,
    structure_metadata,
    write_file,
    write_folder,
)
from library.models.family import Condition, Family, open_family
from library.models.layout import usual_config
from library.models.single_file import STRUCTURE
from library.weights import load_tensors, read_header
from tests.original_layout import checkpoint
from tests.toy_families import real_modules, toy_modules, toy_parts

FAMILIES = ("sd1", "sd2", "sdxl")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
toy = cache(toy_parts)
Configs = dict[str, dict[str, Any]]


def write(path: Path, family: str, dtype: torch.dtype, prediction_type: str = "epsilon", **metadata: str) -> Path:
    """Writes a toy: a file if the name ends so, or else a folder."""
    parts, configs = toy(family, prediction_type)
    if path.suffix == ".safetensors":
        write_file(path, family, parts, dtype, structure_metadata(configs, family) | metadata)
    else:
        write_folder(path, family, parts, configs, dtype)
    return path


def loaded(family: Family, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """All tensors of a model as its modules have them, by part."""
    modules = dict(zip(family.text_parts, family.load_text_encoders(dtype), strict=True))
    modules |= {"unet": family.load_unet(dtype), "vae": family.load_vae(dtype)}
    return named({part: part_tensors(module) for part, module in modules.items()})


def named(parts: Parts) -> dict[str, Tensor]:
    """The tensors of all parts in one."""
    return {f"{part}: {key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """The same names and, bit for bit, the same values."""
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def conditions(family: Family) -> Condition:
    """What a caption says to the UNet."""
    return family.encode_text(family.load_text_encoders(torch.float32), family.tokenize(["a red cat"], 75))


@torch.no_grad()
def prediction(family: Family, condition: Condition) -> Tensor:
    """The UNet's answer to fixed noise."""
    noisy = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    condition = Condition(*(None if each is None else each.expand(2, *each.shape[1:]) for each in condition))
    return family.predict(family.load_unet(torch.float32), noisy, torch.tensor([10, 900]), condition)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_file_and_folder_hold_the_model(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    parts, _ = toy(name)
    expected = {key: tensor.to(dtype).float() for key, tensor in named(parts).items()}
    for path in (tmp_path / "a.safetensors", tmp_path / "folder"):
        family = open_family(str(write(path, name, dtype)))
        assert family.name == name
        assert_same(loaded(family), expected)
        file = path if path.is_file() else path / "unet" / "diffusion_pytorch_model.safetensors"
        words = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
        assert {kind for kind, _ in read_header(file)[1].values()} == {words[dtype]}


@pytest.mark.parametrize("name", FAMILIES)
def test_file_and_folder_predict_what_the_model_predicts(tmp_path: Path, name: str) -> None:
    file = open_family(str(write(tmp_path / "a.safetensors", name, torch.float32)))
    folder = open_family(str(write(tmp_path / "folder", name, torch.float32)))
    condition = conditions(file)
    assert_same(dict(enumerate_tensors(condition)), dict(enumerate_tensors(conditions(folder))))
    unet = toy_modules(name)["unet"].eval()
    unet.load_state_dict(toy(name)[0]["unet"])
    answers = [prediction(family, condition) for family in (file, folder)]
    file.load_unet = lambda dtype: unet  # type: ignore[method-assign]
    assert torch.equal(answers[0], prediction(file, condition)) and torch.equal(*answers)
    assert file.latent_scale == folder.latent_scale and file.default_size == folder.default_size == 64


def enumerate_tensors(condition: Condition) -> list[tuple[str, Tensor]]:
    """Those fields that the family has."""
    return [(str(number), each) for number, each in enumerate(condition) if each is not None]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_real_files_have_the_tensors_of_the_original(name: str) -> None:
    parts = {part: part_tensors(module) for part, module in real_modules(name).items()}
    shapes = {key: tuple(tensor.shape) for key, tensor in original_tensors(name, parts).items()}
    assert shapes == checkpoint(name)
    text = {"sd1": 196, "sd2": 294, "sdxl": 196 + 390}
    assert len(shapes) == (1680 if name == "sdxl" else 686) + 248 + text[name]


def test_names_by_which_uis_tell_the_families() -> None:
    files = {name: checkpoint(name) for name in FAMILIES}
    clip_g = "conditioner.embedders.1.model."
    for key in (clip_g + "ln_final.weight", clip_g + "positional_embedding"):
        assert [name for name, shapes in files.items() if key in shapes] == ["sdxl"]
    assert files["sdxl"]["model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"][1] == 2048
    assert files["sd2"]["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"][1] == 1024
    positions = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
    assert positions in files["sd1"] and positions not in files["sd2"]


@pytest.mark.parametrize("name", FAMILIES)
def test_diffusers_reads_file_and_folder_alike(tmp_path: Path, name: str) -> None:
    kind = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
    folder = write(tmp_path / "folder", name, torch.float32)
    file = write(tmp_path / "a.safetensors", name, torch.float32)
    parts, _ = toy(name)
    for pipeline in (
        kind.from_pretrained(folder),
        kind.from_single_file(str(file), config=str(folder), local_files_only=True),
    ):
        assert_same(named({part: part_tensors(getattr(pipeline, part)) for part in parts}), named(parts))


def test_sd2_has_a_last_layer_that_nothing_reads(tmp_path: Path) -> None:
    tensors = load_tensors(write(tmp_path / "a.safetensors", "sd2", torch.float32))
    start = "cond_stage_model.model.transformer.resblocks."
    layers = {key.removeprefix(start).split(".")[0] for key in tensors if key.startswith(start)}
    assert layers == {"0", "1", "2", "3"}
    last, copy = f"{start}2.mlp.c_fc.weight", f"{start}3.mlp.c_fc.weight"
    assert torch.equal(tensors[last], tensors[copy])
    assert torch.equal(tensors["cond_stage_model.model.text_projection"], torch.eye(24))


@pytest.mark.parametrize("name", FAMILIES)
def test_files_say_what_is_predicted(tmp_path: Path, name: str) -> None:
    words = {"modelspec.prediction_type": "v"}
    path = write(tmp_path / "v.safetensors", name, torch.float16, **words)
    family = open_family(str(path))
    assert (family.prediction_type, family.zero_terminal_snr) == ("v_prediction", False)
    header = read_header(path)[1]
    assert ("v_pred" in header) == (name == "sdxl") and "ztsnr" not in header
    path = write(tmp_path / "zero.safetensors", name, torch.float16, **words, ss_zero_terminal_snr="True")
    assert open_family(str(path)).zero_terminal_snr
    assert read_header(path)[1]["ztsnr"] == ("F16", (0,))
    words = {"modelspec.prediction_type": "epsilon"}
    epsilon = open_family(str(write(tmp_path / "a.safetensors", name, torch.float16, **words)))
    assert (epsilon.prediction_type, epsilon.zero_terminal_snr) == ("epsilon", False)


@pytest.mark.parametrize("name", FAMILIES)
def test_folders_say_what_is_predicted(tmp_path: Path, name: str) -> None:
    family = open_family(str(write(tmp_path / "v", name, torch.float16, "v_prediction")))
    assert (family.prediction_type, family.zero_terminal_snr) == ("v_prediction", False)


def test_the_folders_scheduler_can_draw_with_the_model(tmp_path: Path) -> None:
    parts, configs = toy("sdxl")
    configs = {part: config for part, config in configs.items() if part != "scheduler"}
    for number, (given, kind) in enumerate(
        [
            ({"_class_name": "EulerDiscreteScheduler"}, "EulerDiscreteScheduler"),
            ({"_class_name": "PNDMScheduler", "rescale_betas_zero_snr": True}, "DDIMScheduler"),
            ({"prediction_type": "v_prediction"}, "PNDMScheduler"),
            (None, "EulerDiscreteScheduler"),
        ]
    ):
        folder = tmp_path / str(number)
        write_folder(folder, "sdxl", parts, configs | ({"scheduler": given} if given else {}), torch.float16)
        assert json.loads((folder / "model_index.json").read_text())["scheduler"] == ["diffusers", kind]
        written = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        assert written["_class_name"] == kind
        assert written.items() >= {**(given or usual_config("sdxl", "scheduler")), "_class_name": kind}.items()
        assert type(StableDiffusionXLPipeline.from_pretrained(folder).scheduler).__name__ == kind
        zero = bool(given and "rescale_betas_zero_snr" in given)
        assert open_family(str(folder)).zero_terminal_snr == zero


def test_tokenizers_pad_as_their_families_do(tmp_path: Path) -> None:
    for name, pads in (("sd1", ["<|endoftext|>"]), ("sd2", ["!"]), ("sdxl", ["<|endoftext|>", "!"])):
        folder = write(tmp_path / name, name, torch.float16)
        for tokenizer, pad in zip(("tokenizer", "tokenizer_2"), pads, strict=False):
            for file in ("tokenizer_config.json", "special_tokens_map.json"):
                assert json.loads((folder / tokenizer / file).read_text())["pad_token"] == pad
        assert (folder / "tokenizer_2").is_dir() == (name == "sdxl")


def usual_configs(name: str) -> Configs:
    """The configurations of a model in its usual size."""
    return {part: usual_config(name, part) for part in (*real_modules(name), "scheduler")}


@pytest.mark.parametrize("name", FAMILIES)
def test_usual_sizes_need_no_words(name: str) -> None:
    assert structure_metadata(usual_configs(name), name) == {}
    without = usual_configs(name)
    del without["vae"]["scaling_factor"]  # as in the first models' folders
    assert structure_metadata(without, name) == {}


@pytest.mark.parametrize(
    ("part", "key", "value", "word"),
    [
        ("vae", "scaling_factor", 0.7, "vae_scale"),
        ("unet", "sample_size", 96, "unet_sample_size"),
        ("unet", "attention_head_dim", (5, 10, 10, 10), "unet_heads"),
        ("text_encoder", "num_hidden_layers", 22, "text_layers"),
    ],
)
def test_what_is_unusual_is_told(part: str, key: str, value: Any, word: str) -> None:
    configs = usual_configs("sd2")
    configs[part][key] = value
    told = json.loads(structure_metadata(configs, "sd2")[STRUCTURE])
    assert told[word] == (list(value) if isinstance(value, tuple) else value)
    assert len(told) == 7


def test_a_new_folder_comes_into_being_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any moment, the process leaves nothing that looks like a model and is none."""
    renamed = []
    monkeypatch.setattr(Path, "rename", lambda self, target: renamed.append((self.name, target.name)))
    folder = write(tmp_path / "model", "sd1", torch.float32)
    assert renamed == [(".model.part", "model")] and not folder.exists()


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "a", "sdxl", torch.float32)
    (folder / "notes.txt").write_text("kept")
    before = open_family(str(folder)).fingerprint("unet")
    parts, configs = toy("sd1", seed=1)
    with monkeypatch.context() as patched:
        patched.setattr("library.models.checkpoints._write_tokenizer", interrupt)
        for place in (folder, tmp_path / "b"):
            with pytest.raises(KeyboardInterrupt):
                write_folder(place, "sd1", parts, configs, torch.float16)
    assert open_family(str(folder)).fingerprint("unet") == before
    write_folder(folder, "sd1", parts, configs, torch.float16)
    assert open_family(str(folder)).name == "sd1"
    assert (folder / "notes.txt").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def interrupt(*_: object, **__: object) -> None:
    """Ctrl+C."""
    raise KeyboardInterrupt


def test_a_new_folder_comes_into_being_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one name, so that whoever is killed leaves a model or none."""
    renamed: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: (renamed.append(Path(target).name), rename(self, target)))
    write(tmp_path / "a", "sd1", torch.float16)
    assert renamed.count("a") == 1 and open_family(str(tmp_path / "a")).name == "sd1"


def test_a_folder_is_replaced_with_its_index_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is half replaced is no model, and both halves are there for a person; what else lay there stays."""
    folder = write(tmp_path / "a", "sd1", torch.float16)
    (folder / "notes.txt").write_text("mine")
    replace = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if self.name == "vae":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write(folder, "sd1", torch.float32)
    assert not (folder / "model_index.json").exists() and (tmp_path / ".a.gone" / "model_index.json").exists()
    write(folder, "sd1", torch.float32)
    assert open_family(str(folder)).part_tensors("unet")["conv_in.weight"].dtype == torch.float32
    assert (folder / "notes.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"a"}
