"""Hashes of the files behind a picture, against hashlib and kohya's own."""

from hashlib import sha256
from pathlib import Path

import torch

from library.adapters.hypernetwork import ContextNetwork, Form
from library.adapters.hypernetwork_files import HypernetworkFile, write_hypernetwork
from library.models.made_by import lora_sha256, model_sha256, with_tags, word_sha256
from library.models.prompts import Prompt
from library.weights import save_tensors, tensors_sha256

TENSORS = {"b": torch.ones(3), "a": torch.zeros(2, 2)}


def test_a_model_is_one_file_or_has_no_hash(tmp_path: Path) -> None:
    (tmp_path / "m.ckpt").write_bytes(b"weights")
    assert model_sha256(str(tmp_path / "m.ckpt"), tmp_path / "cache") == sha256(b"weights").hexdigest()
    assert word_sha256(tmp_path / "m.ckpt") == lora_sha256(tmp_path / "m.ckpt") == sha256(b"weights").hexdigest()
    assert model_sha256(str(tmp_path)) == model_sha256("user/name") == ""


def test_a_lora_is_known_by_what_follows_its_header(tmp_path: Path) -> None:
    plain, named, told = (tmp_path / f"{name}.safetensors" for name in ("plain", "named", "told"))
    save_tensors(plain, TENSORS)
    save_tensors(named, TENSORS, {"title": "x"})
    save_tensors(told, TENSORS, {"sshs_model_hash": "c0ffee"})
    assert lora_sha256(plain) == lora_sha256(named) == tensors_sha256(TENSORS)
    assert lora_sha256(told) == "c0ffee"


def test_files_that_a_prompt_does_not_name_get_tags(tmp_path: Path) -> None:
    """Hypernetworks by another one than LoRAs."""
    save_tensors(tmp_path / "mine.safetensors", TENSORS)
    pair = ContextNetwork(8, Form()), ContextNetwork(8, Form())
    write_hypernetwork(tmp_path / "net.pt", HypernetworkFile("net", Form(), {8: pair}))
    files = [(tmp_path / "mine.safetensors", 0.8), (tmp_path / "net.pt", 1.0)]
    assert with_tags(Prompt("a cat"), files).text == "a cat <lora:mine:0.8> <hypernet:net:1>"
    assert with_tags(Prompt("a cat <lora:mine:0.3>"), files[:1]).text == "a cat <lora:mine:0.3>"
