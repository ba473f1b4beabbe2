"""Going through folders: what counts as a picture, and one bad file never stops the rest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from library.errors import InputError
from library.prepare.walk import Outcome, find_pictures, finish, read_ahead, work_through

ROOT = Path(__file__).resolve().parents[2]


def touch(folder: Path, *names: str) -> None:
    """Empty files."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def half(number: int) -> int:
    """Fails for odd numbers."""
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number // 2


def names(paths: list[Path]) -> list[str]:
    """The files' names."""
    return [path.name for path in paths]


def test_what_counts_as_a_picture(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a.png", "a-masklabel.png", ".hidden.png", "a.txt", "c.gif", "d.heic")
    touch(tmp_path, "in/e.webp", ".in/f.png")
    assert names(find_pictures(tmp_path)) == ["a.png", "b.JPG", "d.heic"]
    assert names(find_pictures(tmp_path, other_kinds=True)) == ["a.png", "b.JPG", "c.gif", "d.heic"]
    assert names(find_pictures(tmp_path, recursive=True)) == ["a.png", "b.JPG", "d.heic", "e.webp"]


def test_links_that_lead_nowhere_are_to_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    for name, target in {"gone.png": "nothing", "circle.png": "circle.png", "in.png": "in"}.items():
        (tmp_path / name).symlink_to(target)
    assert names(find_pictures(tmp_path)) == ["circle.png", "gone.png"]
    assert names(find_pictures(tmp_path, recursive=True)) == ["circle.png", "gone.png", "a.png", "a.png"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png")
    with pytest.raises(InputError, match="--recursive"):
        find_pictures(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_pictures(tmp_path / "gone")
    with pytest.raises(InputError, match="is a file"):
        find_pictures(tmp_path / "in" / "a.png")


@pytest.mark.parametrize(("processes", "threads"), [(1, False), (2, False), (3, True)])
def test_results_come_in_order_and_failures_among_them(processes: int, threads: bool) -> None:
    results = list(work_through(range(12), half, "halving", processes, threads))
    assert [item for item, _ in results] == list(range(12))
    for number, result in results:
        assert str(result) == (f"{number} is odd" if number % 2 else str(number // 2))


NAPPING = """
import os, time
from pathlib import Path
from library.prepare.walk import work_through

def nap(seconds):
    Path(f"{os.getpid()}.pid").touch()
    time.sleep(seconds)

if __name__ == "__main__":
    list(work_through([1] * 30, nap, "napping", 2))
"""


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_processes_end_with_the_first(tmp_path: Path, way: signal.Signals) -> None:
    """However it ends; and Ctrl+C, which all of them get, is not answered by each with a traceback."""
    (tmp_path / "napping.py").write_text(NAPPING)
    place = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(ROOT)}, "start_new_session": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "napping.py"], **place, **pipes) as program:
        while len(list(tmp_path.glob("*.pid"))) < 2:
            assert program.poll() is None
            time.sleep(0.05)
        others = psutil.Process(program.pid).children()
        if way == signal.SIGINT:
            os.killpg(program.pid, way)
        else:
            program.send_signal(way)
        said = program.communicate(timeout=60)[1]
        assert len(others) >= 2 and psutil.wait_procs(others, timeout=60)[1] == []
    assert said.count("Traceback") == (way == signal.SIGINT)


def test_reading_ahead_keeps_the_order() -> None:
    assert [str(result) for _, result in read_ahead([4, 3, 2], half)] == ["2", "3 is odd", "1"]


def test_reading_ahead_stops_when_nobody_wants_more() -> None:
    seen: list[int] = []
    for number, _ in read_ahead(range(1000), lambda number: seen.append(number)):
        if number == 3:
            break
    assert len(seen) < 50


def test_the_end_names_what_failed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    outcome = Outcome()
    outcome.count("written")
    outcome.count("written")
    outcome.fail(tmp_path / "a.png", "its content is not a picture")
    assert finish(outcome, "captions") == 0
    lines = ["captions: 2 written, 1 failed:", f"  {tmp_path}/a.png: its content is not a picture"]
    assert capsys.readouterr().out.splitlines() == lines
    assert finish(Outcome(), "captions") == 0
    assert capsys.readouterr().out == "captions: nothing to do.\n"


def test_if_all_failed_the_input_is_wrong() -> None:
    outcome = Outcome()
    outcome.fail(Path("a.png"), "no such file")
    with pytest.raises(InputError, match="none of the captions") as caught:
        finish(outcome, "captions")
    assert caught.value.sentences[1] == "a.png: no such file."
