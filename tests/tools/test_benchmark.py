"""tools/benchmark.py as people run it."""

import json
from pathlib import Path

import pytest

from library.bench import works
from library.bench.rounds import Timing
from library.errors import InputError
from tools import benchmark


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object) -> str:
    """What the program prints."""
    monkeypatch.setattr("sys.argv", ["benchmark.py", *map(str, words)])
    assert benchmark.main() == 0
    return capsys.readouterr().out


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """No model is built; what is asked for of each race: rounds and steps."""
    asked: list[tuple[int, int]] = []

    def race(contestants: object, device: object, rounds: int, steps: int) -> dict[str, Timing]:
        asked.append((rounds, steps))
        return {"ours": Timing(10.0, None), "plain": Timing(12.0, None)}

    monkeypatch.setattr(works, "race", race)
    for name in ("ours", "plain"):
        contestant = lambda *_: lambda number: None  # noqa: E731
        contestant.__name__ = name
        monkeypatch.setattr(works, name, contestant)
    return asked


def test_the_file_and_the_table(quick, capsys, monkeypatch, tmp_path: Path) -> None:
    printed = told(capsys, monkeypatch, "--small", "--json", tmp_path / "rows.json")
    content = json.loads((tmp_path / "rows.json").read_text())
    assert len(content["rows"]) == 5 and quick == [(9, 1)] * 5
    assert all(row.keys() >= {"work", "ours_ms", "reference_ms", "ratio", "peak_gb"} for row in content["rows"])
    assert content["rows"][0]["ratio"] == 1.2 and content["precision"] == "no" and content["torch"]
    assert len(printed.splitlines()) == 6 and "small sd1 256 b1 lora" in printed


def test_rows_can_be_chosen(quick, capsys, monkeypatch) -> None:
    printed = told(capsys, monkeypatch, "--small", "--only", "b4 lora", "--rounds", 2, "--steps", 3)
    assert quick == [(2, 3)] and len(printed.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rounds", "0"], "--rounds must be 1 or more, not 0"),
        (["--json", "no/such/rows.json"], "the folder no/such is not there"),
        (["--small", "--only", "b9"], "--only 'b9' is in no row's name; the rows are small sd1 256 b1 lora"),
    ],
)
def test_mistakes(words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark.py", *words])
    with pytest.raises(InputError, match=sentence):
        benchmark.main()
