"""Adapter files on a command line, with ratios and block weights, and colons in names."""

from pathlib import Path

from library.adapters.given import read_lora, split_file


def test_how_loras_are_named(tmp_path: Path) -> None:
    path, wrong = tmp_path / "a.safetensors", []
    path.touch()
    assert read_lora(str(path), "--lora", wrong) == (path, 1.0, {})
    assert read_lora(f"{path}:-0.5", "--lora", wrong) == (path, -0.5, {})
    assert read_lora(f"{path}:2:in=0,te=1.5", "--lora", wrong) == (path, 2.0, {"in": 0.0, "te": 1.5})
    odd = tmp_path / "a:0.5"
    odd.touch()
    assert read_lora(str(odd), "--lora", wrong) == (odd, 1.0, {})
    assert read_lora(f"{odd}:3", "--lora", wrong) == (odd, 3.0, {}) and not wrong
    assert read_lora("gone.pt:0.5", "--lora", wrong) == (Path("gone.pt"), 0.5, {})
    for text in (f"{path}:much", f"{path}:inf", f"{path}:1:middle=2"):
        assert read_lora(text, "--lora", wrong) is None
    assert len(wrong) == 3 and all(sentence.startswith("--lora ") for sentence in wrong)


def test_what_follows_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.touch()
    assert split_file(f"{path}:<x>") == (path, ["<x>"])
    assert split_file(f"{path}:1:in=0") == (Path(f"{path}:1:in=0"), [])
    assert split_file(f"{path}:1:in=0", 2) == (path, ["1", "in=0"]) and split_file(str(path), 2) == (path, [])
    assert split_file("C:/gone.pt") == (Path("C:/gone.pt"), []) and split_file(":1") == (Path(":1"), [])
    assert split_file("C:/gone.pt:-1") == (Path("C:/gone.pt"), ["-1"])
