"""Who speaks, and how often."""

import io

import pytest

from library import log


@pytest.fixture(autouse=True)
def _forget_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    log.warn.cache_clear()
    monkeypatch.delenv("RANK", raising=False)


def test_say_writes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    log.say("steps:", 3)
    assert capsys.readouterr() == ("steps: 3\n", "")


def test_warning_comes_once_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    for sentence in ("the moon is full.", "the moon is full.", "the sun is up."):
        log.warn(sentence)
    assert capsys.readouterr() == ("", "warning: the moon is full.\nwarning: the sun is up.\n")


@pytest.mark.parametrize(("rank", "speaks"), [("0", True), ("", True), ("1", False), ("7", False)])
def test_only_the_first_process_speaks(
    rank: str, speaks: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    log.say("hello")
    log.warn("careful.")
    out, err = capsys.readouterr()
    assert (bool(out), bool(err)) == (speaks, speaks)


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", "caf? ü"), ("ascii", "caf? ?"), (None, "caf? ü")])
def test_what_a_terminal_cannot_show_becomes_a_question_mark(encoding: str | None, shown: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding, write_through=True) if encoding else io.StringIO()
    log.show("caf\udce9 ü", stream)
    stream.seek(0)
    assert stream.read() == f"{shown}\n"
