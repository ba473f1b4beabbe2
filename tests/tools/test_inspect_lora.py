"""tools/inspect_lora.py: words, JSON, settings, the check against a model, and its exit status."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from library.adapters.metadata import TrainingFacts, training_metadata
from library.errors import InputError
from library.models.family import open_family
from library.models.stems import usual_stems
from library.weights import save_tensors
from tests.adapters.foreign_files import named
from tests.toy_families import write_toy
from tools import inspect_lora

PROGRAM = Path(inspect_lora.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of two families, and a LoRA for the UNet of the first with one layer that changes nothing."""
    base = tmp_path_factory.mktemp("inspect")
    family = open_family(str(write_toy(base / "sd1", "sd1")))
    write_toy(base / "sdxl", "sdxl")
    weights, tensors = family.part_tensors("unet"), {}
    for number, (stem, name) in enumerate(usual_stems(family, "unet", weights, convolutions=False).items()):
        outputs, inputs, *rest = weights[name].shape
        up = torch.full((outputs, 2, *[1 for _ in rest]), float(number > 0))
        leaves = {"lora_down.weight": torch.ones(2, inputs, *rest), "lora_up.weight": up, "alpha": torch.tensor(2.0)}
        tensors |= named(stem, leaves)
    facts = TrainingFacts(
        "mine",
        "toy",
        network_dim=2,
        steps=7,
        dataset_dirs={"/home/me/cats": {"n_repeats": 1, "img_count": 2}},
        tag_frequency={"/home/me/cats": {"sks cat": 2, "hat": 1}},
        settings_text='[learning]\nlearning_rate = 0.5\noutput_dir = "<out>"\n',
    )
    save_tensors(base / "mine.safetensors", tensors, training_metadata(facts))
    return base


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *map(str, words)])
    return inspect_lora.main()


def test_what_a_person_reads(folder: Path, monkeypatch, capsys) -> None:
    from library import log

    log.warn.cache_clear()
    assert run(monkeypatch, folder / "mine.safetensors") == 0
    printed, warned = capsys.readouterr()
    for words in (
        "for Stable Diffusion 1.x, in kohya's names",
        "layers: 192 LoRA; ranks 2, alpha 2; float32",
        "mid ",
        "out11 ",
        "steps 7",
        "tags: sks cat (2), hat (1)",
        "trigger: sks cat",
        "ComfyUI        loads it whole",
        "Fooocus        does not load it: it is for Stable Diffusion XL alone",
    ):
        assert words in printed
    assert "1 of 192 layers change nothing" in warned


def test_everything_as_json(folder: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder / "mine.safetensors", "--json", tmp_path / "a.json", "--check", folder / "sd1") == 0
    table = json.loads((tmp_path / "a.json").read_text())
    assert table["family"] == "sd1" and table["layout"] == "kohya" and len(table["layers"]) == 192
    assert table["check"]["fits"] and table["check"]["found"] == 192 and table["trigger"] == "sks cat"
    assert table["uis"]["diffusers"] == {"loads": "whole", "why": []}
    assert table["blocks"]["mid"]["layers"] == 12 and table["metadata"]["ss_steps"] == "7"
    layer = next(each for each in table["layers"] if each["stem"].endswith("mid_block_attentions_0_proj_in"))
    assert layer["norm"] == pytest.approx(2 * 32) and layer["shape"] == [32, 32, 1, 1]
    capsys.readouterr()
    assert run(monkeypatch, folder / "mine.safetensors", "--json") == 0
    assert json.loads(capsys.readouterr().out)["kinds"] == {"LoRA": 192}
    with pytest.raises(InputError, match="is there already"):
        run(monkeypatch, folder / "mine.safetensors", "--json", tmp_path / "a.json")


def test_the_check_says_what_has_no_place(folder: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder / "mine.safetensors", "--check", folder / "sd1") == 0
    assert "192 layers found their place" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, PROGRAM, folder / "mine.safetensors", "--check", folder / "sdxl"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr and "have no place in" in done.stderr


def test_the_settings_of_the_run(folder: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, folder / "mine.safetensors", "--toml") == 0
    printed = capsys.readouterr().out
    assert tomllib.loads(printed) == {"learning": {"learning_rate": 0.5, "output_dir": "out"}}


def test_a_file_that_tells_nothing_of_its_run(folder: Path, tmp_path: Path, monkeypatch) -> None:
    save_tensors(tmp_path / "x.safetensors", named("lora_unet_conv_in", {"diff": torch.ones(4, 4, 3, 3)}))
    with pytest.raises(InputError, match="tells nothing of the run"):
        run(monkeypatch, tmp_path / "x.safetensors", "--toml")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nowhere.safetensors",), "there is no file nowhere.safetensors"),
        ((str(PROGRAM), "--toml", "--json"), "--toml is printed alone"),
        ((str(PROGRAM), "--json", "x.txt"), "must end in .json"),
    ],
)
def test_wrong_input(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        inspect_lora.parse_arguments(words)


def test_no_adapter_ends_with_a_sentence() -> None:
    done = subprocess.run([sys.executable, PROGRAM, PROGRAM], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr


def test_numbers_in_words() -> None:
    assert [inspect_lora.span(numbers) for numbers in ([], [4, 4], [16, 4])] == ["none", "4", "4 to 16"]


def test_numbers_that_are_none_are_null(tmp_path: Path, monkeypatch, capsys) -> None:
    tensors = named("lora_unet_mid_block_attentions_0_proj_in", {"diff": torch.full((4, 4), torch.nan)})
    save_tensors(tmp_path / "x.safetensors", tensors)
    assert run(monkeypatch, tmp_path / "x.safetensors", "--json") == 0
    table = json.loads(capsys.readouterr().out)
    assert table["layers"][0]["norm"] is None and not table["layers"][0]["is_finite"]
    assert "NaN" in table["warnings"][0]
