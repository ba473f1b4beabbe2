"""The small programs, each with hundreds of wrong words: status 2, sentences, no traceback, and nothing written."""

import importlib
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from library.log import warn
from tests.runs import BASICS, WHOLE, Bench, draw_pictures, listing, run_to_the_end
from tests.tools.lora_files import write_lora
from tests.trust.wrong_words import wrong_lines, wrong_settings

LINES = wrong_lines()
LONGEST = 60  # seconds
PROGRAMS = sorted({line[0] for line in LINES})


@pytest.fixture
def places(toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What the words in braces stand for; programs start in a folder of their own, without the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # read from the environment only once
    (tmp_path / "empty").mkdir()
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    (tmp_path / "text.safetensors").write_text("no model")
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    lora = write_lora(tmp_path / "lora.safetensors", toy_model)
    pictures = draw_pictures(tmp_path / "pictures", 2)
    found = {"model": toy_model, "lora": lora, "pictures": pictures, "picture": pictures / "000.png"}
    found |= {name: tmp_path / name for name in ("empty", "circle", "out")} | {"gone": tmp_path / "gone" / "a"}
    found |= {"text": tmp_path / "text.safetensors", "pipe": tmp_path / "pipe.safetensors", "zero": Path("/dev/zero")}
    found |= {"long": tmp_path / ("a" * 300), "socket": tmp_path / "s"}
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)
        listening.bind("s")  # a whole path would be too long for it
        monkeypatch.chdir(tmp_path / "start")
        yield {name: str(path) for name, path in found.items()}


def test_there_are_hundreds() -> None:
    counts = (len({tuple(line) for line in LINES}), len(set(wrong_settings())))
    print(counts, len(PROGRAMS))
    assert sum(counts) >= 600 and len(PROGRAMS) >= 13


def _give_up(*_: object) -> None:
    raise TimeoutError("it does not end")


@pytest.mark.parametrize("program", PROGRAMS)
def test_wrong_words(places: dict[str, str], capsys, monkeypatch, tmp_path: Path, program: str) -> None:
    folder = "tools" if (Path(__file__).parents[2] / "tools" / f"{program}.py").exists() else "preprocess"
    main = importlib.import_module(f"{folder}.{program}").main
    before, wrong = listing(tmp_path), []
    signal.signal(signal.SIGALRM, _give_up)
    for line in (line for line in LINES if line[0] == program):
        words = line[1:]
        for name, path in places.items():
            words = [word.replace("{" + name + "}", path) for word in words]
        monkeypatch.setattr(sys, "argv", [f"{program}.py", *words])
        warn.cache_clear()
        signal.alarm(LONGEST)
        try:
            status = run_to_the_end([], lambda _: main())
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        told = capsys.readouterr().err
        errors = [each.removeprefix("error: ") for each in told.splitlines() if each.startswith("error: ")]
        is_said = errors and all(each[-1] in ".?)" and len(each) < 2000 for each in errors)
        if status != 2 or not is_said or "Traceback" in told:
            wrong.append(f"{line}: {status}\n{told[-1500:]}")
        if listing(tmp_path) != before or Path(places["out"]).exists():
            wrong.append(f"{line}: it wrote {listing(tmp_path).keys() - before.keys()}\n{told[-300:]}")
            shutil.rmtree(places["out"], ignore_errors=True)
            before = listing(tmp_path)
    assert not wrong, f"{len(wrong)} of {program}\n" + "\n".join(wrong)


@pytest.mark.parametrize("program", ["train_network", "train_dreambooth"])
def test_wrong_settings(places: dict[str, str], bench: Bench, capsys, tmp_path: Path, program: str) -> None:
    main = importlib.import_module(program).main
    basics, before, wrong = BASICS if program == "train_network" else {**BASICS, **WHOLE}, listing(tmp_path), []
    basics = {**basics, "max_train_steps": 1, "sample_every_n_epochs": 1}
    signal.signal(signal.SIGALRM, _give_up)
    for name, value in wrong_settings():
        if program == "train_dreambooth" and name == "network_weights":
            continue
        written = value
        for place, path in places.items():
            written = written.replace("{" + place + "}", path)
        argv = bench.argv(**{**basics, name: written})
        warn.cache_clear()
        signal.alarm(LONGEST)
        try:
            status: object = run_to_the_end(argv, main)
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
        told = capsys.readouterr().err
        if status != 2 or "Traceback" in told or listing(tmp_path) != before or bench.output.exists():
            wrong.append(f"{name}={value}: {status}\n{told[-1200:]}")
            shutil.rmtree(bench.output, ignore_errors=True)
            shutil.rmtree(bench.logs, ignore_errors=True)
            before = listing(tmp_path)
    assert not wrong, f"{len(wrong)} of {program}\n" + "\n".join(wrong)
