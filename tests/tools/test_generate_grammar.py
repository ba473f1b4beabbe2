"""tools/generate.py with what prompts say beside words: hypernetworks, and words that change on the way."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from library.adapters.hypernetwork import ContextNetwork, Form
from library.adapters.hypernetwork_files import HypernetworkFile, write_hypernetwork
from tests.toys import write_toy_sd1
from tools import generate


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_sd1(tmp_path_factory.mktemp("models") / "toy")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The program's exit status, run in this process with few steps and no GPU's rounding."""
    words = [*map(str, arguments), "--steps", "4", "--precision", "no", "--width", "64", "--height", "64"]
    monkeypatch.setattr(sys, "argv", ["generate.py", *words])
    return generate.main()


def drawn(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_hypernetwork_is_drawn_by_option_and_by_tag(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One for text alone, of the toy's width; pictures of ours are drawn again by their tag."""
    form = Form()
    pair = ContextNetwork(32, form), ContextNetwork(32, form)
    for network in pair:
        for number, parameter in enumerate(network.parameters()):
            parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.5
    write_hypernetwork(tmp_path / "dream.pt", HypernetworkFile("dream", form, {32: pair}))
    words = ("--model", model, "--seed", 3, "--overwrite", "--output")
    pictures = {}
    for name, more in {
        "base": ("--prompt", "a dog"),
        "option": ("--prompt", "a dog", "--lora", f"{tmp_path / 'dream.pt'}:0.5"),
        "tag": ("--prompt", "a dog <hypernet:dream:0.5>", "--lora_dir", tmp_path),
        "again": ("--like", tmp_path / "option.png", "--lora_dir", tmp_path),
    }.items():
        assert run(monkeypatch, *words, tmp_path / f"{name}.png", *more) == 0
        pictures[name] = drawn(tmp_path / f"{name}.png")
    assert Image.open(tmp_path / "option.png").info["parameters"].startswith("a dog <hypernet:dream:0.5>\n")
    assert not np.array_equal(pictures["base"], pictures["option"])
    assert np.array_equal(pictures["option"], pictures["tag"]) and np.array_equal(pictures["tag"], pictures["again"])


def test_words_change_on_the_way(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With changes that come too late or too early a picture is the plain one; in between it is neither, and a batch
    draws what is drawn one by one.
    """
    words = ["--model", model, "--seed", 3, "--guidance", 5, "--negative", "[x:y:2]"]
    texts = ["a dog", "a cat", "a [dog:cat:99]", "a [dog:cat:0]", "a [dog:cat:0.5]", "a [dog|cat]", "a [cat:dog:0.5]"]
    alone, together = tmp_path / "alone.png", tmp_path / "together.png"
    prompts = [word for text in texts for word in ("--prompt", text)]
    assert run(monkeypatch, *words, *prompts, "--output", alone) == 0
    assert run(monkeypatch, *words, *prompts, "--output", together, "--batch_size", 7) == 0
    found = [drawn(tmp_path / f"alone_{number:02d}.png") for number in range(1, 8)]
    for number, picture in enumerate(found, start=1):
        assert abs(picture - drawn(tmp_path / f"together_{number:02d}.png")).max() <= 1
    dog, cat, late, early, *others = found
    assert np.array_equal(dog, late) and np.array_equal(cat, early)
    different = [dog, cat, *others]
    for number, one in enumerate(different):
        assert not any(np.array_equal(one, other) for other in different[:number])
    assert Image.open(tmp_path / "alone_05.png").info["parameters"].startswith("a [dog:cat:0.5]\n")
