"""The model card says what the training's files and the judge's figures say."""

import json
import sys
from pathlib import Path

import pytest
import torch

from demo import card
from demo.structure import count_parameters
from demo.training import Budget, save_checkpoint
from demo.trials import GOALS
from tests.toys import toy_text_encoder, toy_unet, toy_vae, write_toy_sd1

FIGURES = {"prompts": 200, "steps": 25, "sampler": "ddim", "guidance": 5.0, "seed": 3}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves behind."""
    folder = tmp_path_factory.mktemp("work")
    save_checkpoint(folder / "vae.pt", {}, Budget(1.0, done_steps=4321, done_seconds=1980.0))
    save_checkpoint(folder / "unet.pt", {}, Budget(1.0, done_steps=5678, done_seconds=4140.0))
    save_checkpoint(folder / "decoder.pt", {}, Budget(1.0, done_steps=1234, done_seconds=480.0))
    torch.save({"seed": 9, "mean": torch.zeros(77, 4, 1, 1)}, folder / "latents.pt")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_sd1(tmp_path_factory.mktemp("models") / "toy")


def test_the_card_is_written_from_facts(
    work: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {name: {"all": 0.5 + 0.01 * index} for index, name in enumerate(GOALS)}
    world, subject = tmp_path / "world.json", tmp_path / "subject.json"
    world.write_text(json.dumps({**FIGURES, "figures": parts}))
    subject.write_text(json.dumps({"prompts": 104, "figures": {"all marks": {"all": 0.0125}}}))
    words = ["--model", model, "--work", work, "--figures", world, "--machine", "a slow one"]
    monkeypatch.setattr(sys, "argv", ["card", *map(str, words)])
    card.main()
    text = (model / "README.md").read_text()
    for fact in (
        "| machine | a slow one |",
        "4,321 steps, 33 minutes",
        "5,678 steps, 69 minutes",
        "1,234 steps, 8 min",
        "| seed | 9 |",
    ):
        assert fact in text
    assert "--pictures 77 --seed 9" in text and "200 random prompts, 25 steps" in text
    assert "| background | 50.0 % | 97 % |" in text and "| not smeared | 54.0 % | 100 % |" in text
    assert "{" not in text and "sks" not in text
    monkeypatch.setattr(sys, "argv", ["card", *map(str, words), "--subject_figures", str(subject)])
    sys.argv += ["--remark", "Halfway it was given new words."]
    card.main()
    assert "\n\nHalfway it was given new words.\n\n## What" in (model / "README.md").read_text()
    assert "of 104 pictures" in (model / "README.md").read_text() and "1.2 % show" in (model / "README.md").read_text()


def test_sizes_are_the_models_own(work: Path, model: Path) -> None:
    facts = card.made_of(work, model)
    for name, part in (("unet", toy_unet()), ("vae", toy_vae()), ("text", toy_text_encoder())):
        assert facts[f"{name}_parameters"] == pytest.approx(count_parameters(part) / 1e6)
    assert facts["megabytes"] == pytest.approx(sum(p.stat().st_size for p in model.rglob("*.*")) / 1e6, rel=0.01)
