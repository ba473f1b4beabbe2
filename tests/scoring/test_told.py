"""What pictures tell of themselves: parameters, names of previews, text files, folders."""

from dataclasses import replace
from pathlib import Path

import pytest

from library.models.parameters import webui_text
from library.models.prompts import Prompt
from library.scoring.told import Told, read_parameters, told_of


def test_what_generate_writes_is_read() -> None:
    prompt = Prompt("a cat, <b>, on\tgrass", negative="a dog", seed=3)
    assert read_parameters(webui_text(prompt, "v1-5")) == Told("a cat, <b>, on grass", "v1-5")
    tagged = replace(prompt, text=prompt.text + " <lora:one-000010:0.8> <lora:two:1>")
    assert read_parameters(webui_text(tagged, "v1-5", 2)) == Told(
        "a cat, <b>, on grass", "one-000010 x 0.8 + two x 1"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("only words", Told("only words", None)),
        ("<lora:x:1>\nSteps: 5, Seed: 1, Model: m", Told(None, "x x 1")),
        ("two\nlines\nNegative prompt: bad\nSteps: 5, Sampler: DDIM, Model: m.x, Seed: 1", Told("two lines", "m.x")),
        ("Steps: 5, Sampler: Euler, Seed: 1", Told(None, None)),
    ],
)
def test_other_parameters(text: str, told: Told) -> None:
    assert read_parameters(text) == told


def test_names_files_and_folders_tell_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "demo_e000100_00_1.png"
    told = told_of(path, webui_text(Prompt("a cat"), "demo"), "a default")
    assert told == Told("a cat", "demo e000100")
    assert told_of(path, webui_text(Prompt("a cat <lora:x:1>"), "m")).checkpoint == "x x 1"
    plain = tmp_path / "picture.png"
    assert told_of(plain, None, "a default") == Told("a default", tmp_path.name)
    assert told_of(plain, None) == Told(None, tmp_path.name)
    (tmp_path / "picture.txt").write_text("beside\nit\n")
    assert told_of(plain, None, "a default") == Told("beside it", tmp_path.name)
