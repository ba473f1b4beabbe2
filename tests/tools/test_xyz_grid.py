"""tools/xyz_grid.py: the picture and the page of a grid, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.errors import InputError
from library.models.family import open_family
from tests.tools.lora_files import run, write_lora
from tests.toy_families import write_toy
from tools import generate, xyz_grid


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("grid")
    write_lora(base / "lora.safetensors", write_toy(base / "model", "sd1"))
    return base


def test_a_grid_of_three_axes(base: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "grid.png"
    words = ["--model", base / "model", "--lora", base / "lora.safetensors", "--prompt", "a red cat", "--steps", 2]
    axes = ["--x", "strength=0,1", "--y", "seed=4,5", "--z", "prompt=red,blue", "--precision", "no"]
    assert run(monkeypatch, xyz_grid, *words, *axes, "--output", output) == 0
    assert "grid.html, 8 pictures in" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grid.html", "grid.png"]
    text = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert text.count("data:image/webp") == 8 and "&lt;lora:lora:1&gt;" in text and "blue" in text
    assert "<dd>ddim, 2 steps, guidance 7.5</dd>" in text and "<dd>lora.safetensors</dd>" in text
    # The first cell is what generate.py draws.
    single = tmp_path / "single.png"
    words[3] = f"{base / 'lora.safetensors'}:0"
    assert run(monkeypatch, generate, *words, "--seed", 4, "--precision", "no", "--output", single) == 0
    large = np.asarray(Image.open(single).resize((256, 256), Image.Resampling.NEAREST))
    whole = np.asarray(Image.open(output))
    places = np.argwhere((whole == large[0, 0]).all(axis=2))
    assert any(np.array_equal(whole[top : top + 256, left : left + 256], large) for top, left in places)


def test_wrong_input(base: Path, tmp_path: Path) -> None:
    words = ["--model", str(base / "model"), "--prompt", "a cat", "--output", str(tmp_path / "grid.png")]
    (tmp_path / "there.html").touch()
    lora = str(base / "lora.safetensors")
    for more, complaint in (
        (["--x", "strength=0,1", "--y", "seed=1"], "the axis strength needs --lora"),
        (["--x", "colour=0,1", "--y", "seed=1"], "--x: 'colour=0,1' is no axis"),
        (["--x", "seed=1"], "required: --y"),
        (["--x", "steps=5", "--y", "seed=1", "--output", str(tmp_path / "x.jpg")], "must end in .png"),
        (["--x", "steps=5", "--y", "seed=1", "--output", str(tmp_path / "there.png")], "there.html is there already"),
        (["--x", "steps=5", "--y", "seed=1", "--lora", f"{lora}:1:in=0"], "the strength '1:in=0' of .* is no number"),
        (["--x", "steps=5", "--y", "seed=1", "--clip_skip", "0"], "must be 1 or more"),
    ):
        with pytest.raises(InputError, match=complaint):
            xyz_grid.parse_arguments([*words, *more])


def test_a_refusal_ends_with_status_2_and_nothing_written(base: Path, tmp_path: Path) -> None:
    words = ["--model", str(base / "model"), "--prompt", "a cat", "--output", str(tmp_path / "grid.png")]
    command = [sys.executable, xyz_grid.__file__, *words, "--x", "steps=0,5", "--y", "sampler=eulr,ddim"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("error: ") == 2 and "Traceback" not in done.stderr
    assert "steps 0 is not between" in done.stderr and not list(tmp_path.iterdir())
    assert open_family(str(base / "model")).name == "sd1"
