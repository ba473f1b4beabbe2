"""tools/score_images.py: pictures scored by a tiny open_clip model and grouped; wrong input refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from library.errors import InputError
from library.models.drawing import save_png
from library.models.parameters import webui_text
from library.models.prompts import Prompt
from tests.scoring.clips import write_clip
from tests.tools.lora_files import run
from tools import score_images


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two training pictures, and drawn ones of two checkpoints, of which one is a training picture."""
    base = tmp_path_factory.mktemp("score")
    write_clip(base / "clip")
    for name, colour in (("red", "red"), ("green", "lime")):
        save_png(base / "train" / f"{name}.png", Image.new("RGB", (64, 64), colour), "")
    for epoch, picture in (("a-000001", Image.new("RGB", (64, 64), "red")), ("a-000002", Image.linear_gradient("L"))):
        text = webui_text(Prompt(f"a cat <lora:{epoch}:1>"), "model")
        save_png(base / "drawn" / f"{epoch}.png", picture.convert("RGB"), text)
    return base


def test_scores_per_picture_and_per_checkpoint(base: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    words = ["--train", base / "train", "--model", base / "clip"]
    assert run(monkeypatch, score_images, base / "drawn", *words, "--json", tmp_path / "x.json") == 0
    printed = capsys.readouterr().out
    assert "a-000001.png" in printed and "to training" in printed and "written:" in printed
    facts = json.loads((tmp_path / "x.json").read_text())
    assert facts["training_pictures"] == 2 and [each["checkpoint"] for each in facts["checkpoints"]] == [
        "a-000001 x 1",
        "a-000002 x 1",
    ]
    first, second = facts["pictures"]
    assert first["closest"] == pytest.approx(1.0, abs=1e-4) and first["closest_to"].endswith("red.png")
    assert second["closest"] < 0.999 and first["image"] < 0.999
    assert first["prompt"] == "a cat" and -1 < first["text"] < 1 and first["text"] != second["text"]
    assert facts["checkpoints"][0]["image"] == first["image"]


def test_by_folder_with_a_prompt_of_ones_own_and_a_broken_picture(
    base: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    for folder in ("one", "two"):
        save_png(tmp_path / folder / "x.png", Image.new("RGB", (32, 32), "blue"), "")
    (tmp_path / "two" / "bad.png").write_text("no picture")
    words = ["--by", "folder", "--prompt", "a dog", "--model", base / "clip", "--json"]
    assert run(monkeypatch, score_images, tmp_path / "one", tmp_path / "two", *words) == 0
    printed = capsys.readouterr()
    facts = json.loads(printed.out)
    assert [each["checkpoint"] for each in facts["checkpoints"]] == ["one", "two"]
    assert facts["pictures"][0]["image"] is None and facts["pictures"][0]["prompt"] == "a dog"
    assert list(facts["failed"]) == [str(tmp_path / "two" / "bad.png")] and "not read:" in printed.err


def test_wrong_input(base: Path, tmp_path: Path, monkeypatch) -> None:
    drawn = str(base / "drawn")
    (tmp_path / "x.json").touch()
    for words, complaint in (
        (["nowhere"], "there is no such picture or folder"),
        ([drawn, "--train", "nowhere"], "there is no such folder"),
        ([drawn, "--json", str(tmp_path / "x.json")], "is there already"),
        ([drawn, "--json", str(tmp_path / "x.txt")], "must end in .json"),
    ):
        with pytest.raises(InputError, match=complaint):
            score_images.parse_arguments(words)
    plain = tmp_path / "plain"
    save_png(plain / "x.png", Image.new("RGB", (32, 32)), "")
    with pytest.raises(InputError, match="nothing to compare with"):
        run(monkeypatch, score_images, plain, "--model", base / "clip")


def test_missing_weights_are_one_sentence_and_status_2(base: Path, tmp_path: Path) -> None:
    command = [sys.executable, score_images.__file__, str(base / "drawn"), "--train", str(base / "train")]
    done = subprocess.run([*command, "--model", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.count("error: ") == 1
    assert "holds no model of open_clip" in done.stderr and "hf download" in done.stderr
