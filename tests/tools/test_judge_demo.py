"""tools/judge_demo.py: pictures, table, files; the LoRA and its strength count; wrong input ends with a sentence."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from demo.trials import Trial, world_trials
from library.errors import InputError
from tests.toys import write_toy_sd1
from tools import judge_demo

PROGRAM = Path(judge_demo.__file__)
QUICK = ("--prompts", "3", "--steps", "1", "--batch", "2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_sd1(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def lora(model: Path) -> Path:
    """kohya's layout, rank 2: every query of the UNet, queries and outputs of the text encoder."""
    source, tensors = torch.Generator().manual_seed(1), {}
    for part, prefix, endings in (
        ("unet", "lora_unet_", (".to_q.weight",)),
        ("text_encoder", "lora_te_", (".q_proj.weight", ".out_proj.weight")),
    ):
        [file] = (model / part).glob("*.safetensors")
        for name, weight in load_file(file).items():
            if name.endswith(endings):
                stem = prefix + name.removesuffix(".weight").replace(".", "_")
                tensors[f"{stem}.lora_down.weight"] = torch.randn(2, weight.shape[1], generator=source)
                tensors[f"{stem}.lora_up.weight"] = torch.randn(weight.shape[0], 2, generator=source)
                tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    path = model.parent / "mark.safetensors"
    save_file(tensors, path)
    return path


def drawn(*arguments: object) -> list[np.ndarray]:
    """The pictures of a run."""
    settings = judge_demo.parse_arguments([*QUICK, *map(str, arguments)])
    return [np.asarray(picture, int) for picture in judge_demo.draw(settings, world_trials(3, 0))]


def difference(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Mean difference of two lists of pictures, in grey levels."""
    return float(np.mean([np.abs(one - other).mean() for one, other in zip(first, second, strict=True)]))


def test_the_table_and_the_files(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, sheet = tmp_path / "figures.json", tmp_path / "sheet.png"
    words = ["--model", model, *QUICK, "--subject", "--json", figures, "--sheet", sheet]
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *map(str, words)])
    assert judge_demo.main() == 0
    printed = capsys.readouterr().out
    content = json.loads(figures.read_text())
    assert "3 prompts, 1 steps, ddim" in printed
    assert "all marks" in printed and "unseen" in printed and "80.0 %" in printed
    assert [picture["prompt"].split()[-2] for picture in content["pictures"]] == ["red", "orange", "yellow"]
    assert content["figures"]["all marks"] == {"all": 0.0, "unseen": 0.0, "seen": 0.0}
    assert content["guidance"] == 3.0 and content["sampler"] == "ddim" and content["lora"] is None
    assert Image.open(sheet).size > (3 * judge_demo.CELL, judge_demo.CELL)


def test_pictures_depend_on_the_seed_and_not_on_the_batch(model: Path) -> None:
    first = drawn("--model", model)
    assert len(first) == 3 and first[0].shape == (64, 64, 3)
    assert difference(first, drawn("--model", model, "--batch", "3")) < 0.5
    assert difference(first, drawn("--model", model, "--seed", "1")) > 0.5
    assert difference(first, drawn("--model", model, "--sampler", "euler")) > 0.1


def test_the_lora_counts_by_its_strength(model: Path, lora: Path) -> None:
    plain, nothing, whole = (
        drawn("--model", model, "--guidance", "5", *words) for words in ((), ("--lora", f"{lora}:0"), ("--lora", lora))
    )
    assert difference(plain, nothing) < 0.1
    assert difference(plain, whole) > 0.5
    assert difference(whole, drawn("--model", model, "--lora", f"{lora}:0.3")) > 0.1


def test_a_word_is_read_without_a_word_of_how(model: Path, tmp_path: Path) -> None:
    """In a process of its own, for transformers says it once in each."""
    file, code = tmp_path / "word.safetensors", "from tools import judge_demo; "
    save_file({"<new>": torch.ones(1, 32)}, file)
    words = ["--model", str(model), "--embedding", str(file), "--word", "<new>"]
    code += f"print(judge_demo.open_pipeline(judge_demo.parse_arguments({words})).tokenizer.tokenize('<new>'))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parents[1], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "['<new>']\n"), ended.stderr
    assert "new embeddings" not in ended.stderr


def test_what_diffusers_cannot_load_is_judged_too(model: Path, lora: Path, tmp_path: Path) -> None:
    """The same change, once as a LoRA whose alpha is its rank, and once as plain differences of weights."""
    tensors = load_file(lora)
    stems = {key.split(".")[0] for key in tensors}
    halves = {stem: [tensors[f"{stem}.lora_{name}.weight"] for name in ("up", "down")] for stem in stems}
    other = tmp_path / "full.safetensors"
    save_file({f"{stem}.diff": up @ down for stem, (up, down) in halves.items()}, other)
    pictures = [drawn("--model", model, "--guidance", "5", "--lora", f"{path}:0.5") for path in (lora, other)]
    assert difference(*pictures) < 0.1
    assert difference(pictures[1], drawn("--model", model, "--guidance", "5")) > 0.3


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("--model", "nowhere"), "--model nowhere is not a diffusers folder"),
        (("--prompts", "0"), "--prompts must be 1 or more"),
        (("--lora", "nothing.safetensors"), "--lora nothing.safetensors is not there"),
        (("--lora", f"{__file__}:strong"), "the strength 'strong' of .* is no number"),
        (("--sampler", "fastest"), "invalid choice"),
    ],
)
def test_wrong_input_is_an_error(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        judge_demo.parse_arguments(words)


def test_all_complaints_come_at_once_with_status_2() -> None:
    words = [sys.executable, str(PROGRAM), "--model", "nowhere", "--steps", "0"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("error: ") == 2 and "Traceback" not in done.stderr


def test_the_sheet_begins_with_the_worst() -> None:
    trials = [Trial(f"prompt {number}", "all", lambda picture: {}) for number in range(3)]
    findings = [{"a": True, "b": True}, {"a": False, "b": False}, {"a": True, "b": False}]
    pictures = [Image.new("RGB", (128, 128), color) for color in ("red", "lime", "blue")]
    sheet = judge_demo.labelled_sheet(trials, findings, pictures)
    middle = sheet.height // 3
    row = [sheet.getpixel((column, middle)) for column in range(sheet.width)]
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert [color for color in dict.fromkeys(row) if color in colors] == [(0, 255, 0), (0, 0, 255), (255, 0, 0)]
