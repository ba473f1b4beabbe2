"""Folders of diffusers: which files are taken, old names, and what is remembered."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from library.errors import InputError
from library.models.layout import build, choose_files, open_folder, plain_vae_names, remembered
from tests import toys


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toys.write_toy_sd1(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """The same names and values."""
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


D = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("part", "names", "chosen"),
    [
        ("unet", [f"{D}.bin", f"{D}.fp16.safetensors", f"{D}.safetensors", f"{D}.non_ema.safetensors"], [2]),
        ("unet", [f"{D}.bin", f"{D}.fp16.safetensors"], [1]),
        ("unet", [f"{D}.fp16.bin", f"{D}.bin"], [1]),
        ("unet", [f"{D}-00001-of-00002.safetensors", f"{D}-00002-of-00002.safetensors", f"{D}.bin"], [0, 1]),
        ("unet", ["model.safetensors", f"{D}.non_ema.bin", "config.json"], []),
        ("text_encoder", ["pytorch_model.bin", "model.safetensors", "flax_model.msgpack"], [1]),
        ("text_encoder", ["pytorch_model.fp16.bin", "pytorch_model.bin"], [1]),
        ("text_encoder", ["model.fp16.safetensors", "pytorch_model.bin"], [0]),
    ],
)
def test_which_files_are_taken(part: str, names: list[str], chosen: list[int]) -> None:
    assert choose_files(part, names) == [names[number] for number in chosen]


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_pickled_weights_of_a_folder(folder: Path, copy: Path, part: str) -> None:
    [file] = (copy / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else f"{D}.bin"
    torch.save(load_file(file), copy / part / name)
    file.unlink()
    assert_same(open_folder("a", copy).read(part), open_folder("a", folder).read(part))


def test_weights_in_several_files(folder: Path, copy: Path) -> None:
    file = copy / "unet" / f"{D}.safetensors"
    tensors = load_file(file)
    names = sorted(tensors)
    save_file(
        {name: tensors[name] for name in names[:300]}, copy / "unet" / f"{D}-00001-of-00002.safetensors"
    )
    save_file(
        {name: tensors[name] for name in names[300:]}, copy / "unet" / f"{D}-00002-of-00002.safetensors"
    )
    file.unlink()
    assert_same(open_folder("a", copy).read("unet"), tensors)


def test_old_names_of_a_vaes_attention(folder: Path) -> None:
    present = open_folder("a", folder).read("vae")
    words = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    old = {}
    for key, tensor in present.items():
        for new, word in words.items():
            key = key.replace(new, word)
        old[key] = tensor
    assert len(old.keys() - present.keys()) == 16
    assert_same(plain_vae_names(old), present)


def test_text_encoders_with_and_without_their_prefix(folder: Path, copy: Path) -> None:
    file = copy / "text_encoder" / "model.safetensors"
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors | {"embeddings.position_ids": torch.zeros(1, 77)}, file)
    assert_same(open_folder("a", copy).read("text_encoder"), open_folder("a", folder).read("text_encoder"))


def test_a_module_is_built_of_its_tensors_alone() -> None:
    tensors = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    module = build(lambda: nn.Linear(3, 2), tensors, torch.float16, "toy")
    assert module.weight.dtype == torch.float16 and not module.training
    assert torch.equal(module.weight, torch.ones(2, 3).half()) and not module.weight.requires_grad
    for wrong, words in (
        ({"weight": tensors["weight"]}, "toy: 1 tensors are missing, such as bias"),
        (tensors | {"more": torch.ones(1)}, "toy: 1 tensors are unknown, such as more"),
        (tensors | {"bias": torch.ones(3)}, "toy: 1 tensors have another shape than expected, such as bias"),
    ):
        with pytest.raises(InputError, match=words):
            build(lambda: nn.Linear(3, 2), wrong, torch.float16, "toy")


def test_weights_lie_where_torch_would_put_them() -> None:
    weight = torch.arange(7.0)[1:].view(2, 3)  # as in a mapped file, at any place
    assert weight.data_ptr() % 64
    module = build(lambda: nn.Linear(3, 2, bias=False), {"weight": weight}, torch.float32, "toy")
    assert torch.equal(module.weight, weight) and module.weight.data_ptr() % 64 == 0


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file, computed = tmp_path / "a", []

    def compute() -> str:
        computed.append(1)
        return f"hash{len(computed)}"

    file.write_text("one")
    assert [remembered("x", [file], compute, tmp_path) for _ in range(2)] == ["hash1", "hash1"]
    assert remembered("y", [file], compute, tmp_path) == "hash2"  # of something else in the same file
    file.write_text("other")
    assert remembered("x", [file], compute, tmp_path) == "hash3"
    for note in (tmp_path / "hashes").iterdir():
        note.write_text("")  # damaged
    assert remembered("x", [file], compute, tmp_path) == "hash4"
    assert [remembered("x", [file], compute, None) for _ in range(2)] == ["hash5", "hash6"]
