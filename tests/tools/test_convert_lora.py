"""tools/convert_lora.py: there and back, file by file."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from library.errors import InputError
from library.weights import load_tensors, read_header, save_tensors
from tests.adapters.foreign_files import loha, named
from tests.tools.lora_files import run, write_lora
from tests.toy_families import write_toy
from tools import convert_lora


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_there_and_back(tmp_path: Path, monkeypatch, capsys, name: str, layout: str) -> None:
    before = write_lora(tmp_path / "a.safetensors", write_toy(tmp_path / "model", name), dtype=torch.float16)
    there, back = tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    assert run(monkeypatch, convert_lora, before, there, "--to", layout) == 0
    assert f"in the layout {layout}" in capsys.readouterr().out
    assert run(monkeypatch, convert_lora, there, back, "--to", "kohya") == 0
    one, other = load_tensors(before), load_tensors(back)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) and one[key].dtype == other[key].dtype for key in one)
    assert read_header(back)[0] == read_header(before)[0], "metadata and hashes too"
    is_dotted = all(key.startswith(("unet.", "text_encoder")) for key in load_tensors(there))
    assert is_dotted == (layout == "diffusers")


def test_wrong_input(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", named("lora_unet_mid_block_attentions_0_proj_in", loha()[0]))
    words = [tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--to", "diffusers"]
    done = subprocess.run([sys.executable, convert_lora.__file__, *words], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "hada_w1_a" in done.stderr
    assert not (tmp_path / "b.safetensors").exists()
    for wrong, complaint in (
        (["no", "b.safetensors", "--to", "kohya"], "there is no file no"),
        ([str(words[0]), str(words[0]), "--to", "kohya"], "is there already"),
        ([str(words[0]), "b.safetensors", "--to", "comfy"], "invalid choice"),
    ):
        with pytest.raises(InputError, match=complaint):
            convert_lora.parse_arguments(wrong)
