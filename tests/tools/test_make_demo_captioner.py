"""tools/make_demo_captioner.py: trains, writes a folder that opens, judges it and writes its card."""

from pathlib import Path

import pytest

from demo import captioner_training
from library.errors import InputError
from tools import make_demo_captioner


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BATCH": 2, "WIDTH": 32, "VISION_LAYERS": 1, "TEXT_LAYERS": 1}.items():
        monkeypatch.setattr(captioner_training, name, value)


def test_folder_and_card(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "captioner"
    arguments = ["--output", str(output), "--work", str(tmp_path / "work"), "--pictures", "3", "--judged", "2"]
    assert make_demo_captioner.main([*arguments, "--steps", "2", "--seed", "4", "--machine", "one core"]) == 0
    assert f"{output}: background 0.0 %" in capsys.readouterr().out
    text = (output / "README.md").read_text()
    for words in ("--pictures 3 --steps 2 --seed 4", "| machine | one core |", "Captions of 2 fresh creatures"):
        assert words in text
    assert "of its 15 pictures" in text and "| body | 0.0 % | 97 % |" in text
    assert (output / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["pictures", "steps", "judged"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"--{name} is 0"):
        make_demo_captioner.main([f"--{name}", "0"])
