"""A folder tagged: every mode, bad files among good ones, and what is told at the end."""

import json
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from library.prepare.tag_line import TagRules
from library.prepare.tagger import Tagger, open_tagger
from library.prepare.tagging import Writing, frequency_table, tag_folder, write_caption, write_report
from tests.prepare.taggers import write_colorist

COLORS = {"a": (255, 0, 0), "b": (0, 255, 255), "c": (0, 0, 0), "d": (90, 0, 255)}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Tagger:
    return open_tagger(str(write_colorist(tmp_path_factory.mktemp("tagger"))), "cpu")


def draw(folder: Path) -> list[Path]:
    """Pictures of one colour each."""
    for name, color in COLORS.items():
        Image.new("RGB", (6, 6), color).save(folder / f"{name}.png")
    return sorted(folder.glob("*.png"))


def captions(folder: Path) -> dict[str, str]:
    """The caption files' content by name."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))}


def test_every_picture_gets_its_tags_and_the_bad_are_named(tagger: Tagger, tmp_path: Path) -> None:
    pictures = draw(tmp_path)
    pictures[3].write_bytes(pictures[3].read_bytes()[:50])
    tagging = tag_folder(tagger, [*pictures, tmp_path / "gone.png"], TagRules(), Writing(), 2, False)
    assert captions(tmp_path) == {"a": "red\n", "b": "blue, green\n", "c": "\n"}
    assert tagging.outcome.counts == {"written": 2, "written without a tag, as none was probable enough": 1}
    assert tagging.outcome.failed.keys() == {pictures[3], tmp_path / "gone.png"}
    assert tagging.outcome.failed[tmp_path / "gone.png"] == "No such file or directory"
    assert tagging.frequencies == {"red": 1, "blue": 1, "green": 1}
    assert tagging.report == {}


@pytest.mark.parametrize(
    ("mode", "trigger", "expected"),
    [
        ("skip", "", {"a": "old, red", "b": "blue, green\n", "c": "\n"}),
        ("skip", "sks", {"a": "old, red", "b": "sks, blue, green\n", "c": "sks\n"}),
        ("overwrite", "", {"a": "red\n", "b": "blue, green\n", "c": "\n"}),
        ("append", "", {"a": "old, red\n", "b": "blue, green\n", "c": "\n"}),
        ("prepend", "", {"a": "red, old\n", "b": "blue, green\n", "c": "\n"}),
        ("append", "sks cat", {"a": "sks cat, old, red\n", "b": "sks cat, blue, green\n", "c": "sks cat\n"}),
        ("append", "old", {"a": "old, red\n", "b": "old, blue, green\n", "c": "old\n"}),
    ],
)
def test_what_becomes_of_old_captions(
    tagger: Tagger, tmp_path: Path, mode: str, trigger: str, expected: dict[str, str]
) -> None:
    pictures = [path for path in draw(tmp_path) if path.stem != "d"]
    (tmp_path / "a.txt").write_text("old, red")
    (tmp_path / "b.txt").write_text(" \n")
    tagging = tag_folder(tagger, pictures, TagRules(), Writing(mode=mode, trigger_word=trigger), 1, False)
    assert captions(tmp_path) == expected
    assert tagging.outcome.counts.get("kept", 0) == (mode == "skip")
    assert not tagging.outcome.failed


def test_a_second_run_does_nothing(tagger: Tagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = draw(tmp_path)[:2]
    tag_folder(tagger, pictures, TagRules(), Writing(), 1, False)
    times = [path.with_suffix(".txt").stat().st_mtime_ns for path in pictures]
    monkeypatch.setattr("library.prepare.tagger.read_picture", lambda path: pytest.fail(f"{path} was read"))
    tagging = tag_folder(tagger, pictures, TagRules(), Writing(), 1, False)
    assert tagging.outcome.counts == {"kept": 2} and not tagging.frequencies
    assert [path.with_suffix(".txt").stat().st_mtime_ns for path in pictures] == times


def test_a_run_that_was_stopped_goes_on(tagger: Tagger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = draw(tmp_path)

    def stop_at_b(path: Path, line: list[str], writing: Writing) -> str:
        if path.stem == "b":
            raise KeyboardInterrupt
        return write_caption(path, line, writing)

    with monkeypatch.context() as patch:
        patch.setattr("library.prepare.tagging.write_caption", stop_at_b)
        with pytest.raises(KeyboardInterrupt):
            tag_folder(tagger, pictures, TagRules(), Writing(), 1, False)
    assert captions(tmp_path) == {"a": "red\n"}
    tagging = tag_folder(tagger, pictures, TagRules(), Writing(), 1, False)
    assert tagging.outcome.counts["kept"] == 1
    assert captions(tmp_path)["d"] == "blue, red\n"


def test_two_pictures_never_share_a_caption(tagger: Tagger, tmp_path: Path) -> None:
    pictures = draw(tmp_path)
    Image.new("RGB", (6, 6), "blue").save(tmp_path / "a.webp")
    tagging = tag_folder(tagger, [*pictures, tmp_path / "a.webp"], TagRules(), Writing(), 1, False)
    assert captions(tmp_path)["a"] == "red\n"
    assert list(tagging.outcome.failed) == [tmp_path / "a.webp"]
    assert "a.png has the same caption file" in tagging.outcome.failed[tmp_path / "a.webp"]


@pytest.mark.parametrize("mode", ["skip", "append"])
def test_a_caption_that_is_no_text_is_left_alone(tagger: Tagger, tmp_path: Path, mode: str) -> None:
    pictures = draw(tmp_path)[:2]
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    tagging = tag_folder(tagger, pictures, TagRules(), Writing(mode=mode), 1, False)
    assert (tmp_path / "a.txt").read_bytes() == b"\xff\xfe\x00"
    assert "not UTF-8" in tagging.outcome.failed[pictures[0]] and tagging.outcome.counts == {"written": 1}


def test_a_report_holds_every_picture_and_captions_stay(tagger: Tagger, tmp_path: Path) -> None:
    pictures = draw(tmp_path)
    (tmp_path / "d.txt").write_text("mine")
    tagging = tag_folder(tagger, pictures, TagRules(), Writing(), 3, True)
    assert (tmp_path / "d.txt").read_text() == "mine" and tagging.outcome.counts["kept"] == 1
    write_report(tmp_path / "new" / "all.json", tagging)
    report = json.loads((tmp_path / "new" / "all.json").read_text(encoding="utf-8"))
    assert list(report) == [str(path) for path in pictures]
    assert report[str(pictures[3])] == {"tags": ["blue", "red"], "probabilities": {"blue": 1.0, "red": 0.3529}}
    assert report[str(pictures[2])] == {"tags": [], "probabilities": {}}


def test_a_name_that_is_no_text_can_be_reported(tagger: Tagger, tmp_path: Path) -> None:
    picture = draw(tmp_path)[0].rename(tmp_path / "caf\udce9.png")
    write_report(tmp_path / "all.json", tag_folder(tagger, [picture], TagRules(), Writing(), 1, True))
    assert list(json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))) == [str(picture)]


def test_the_separator_and_the_ending_are_the_users(tagger: Tagger, tmp_path: Path) -> None:
    pictures = draw(tmp_path)[1:2]
    writing = Writing(extension=".caption", separator=" | ", mode="append", trigger_word="sks")
    (tmp_path / "b.caption").write_text("one thing |green")
    tag_folder(tagger, pictures, TagRules(), writing, 1, False)
    assert (tmp_path / "b.caption").read_text() == "sks | one thing | green | blue\n"
    assert captions(tmp_path) == {}


def test_the_table_counts_from_the_top() -> None:
    assert frequency_table(Counter({"cat": 2, "long hair": 12})) == ["12  long hair", " 2  cat"]
    assert frequency_table(Counter()) == []
