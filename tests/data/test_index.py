"""The picture index: what is known is not read again, what has changed is, and damage does no harm."""

import json
import os
from pathlib import Path

import pytest

from library.data import index as module
from library.data.decoding import Facts, examine
from library.data.index import PictureIndex, examine_all
from library.errors import InputError
from tests.data.samples import draw


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The pictures that were decoded."""
    paths: list[Path] = []

    def spy(path: Path) -> Facts:
        paths.append(path)
        return examine(path)

    monkeypatch.setattr(module, "examine", spy)
    return paths


def test_a_second_start_reads_no_picture(tmp_path: Path, reads: list[Path]) -> None:
    paths = [draw(tmp_path / "in" / f"{number}.png", seed=number) for number in range(4)]
    first = PictureIndex(tmp_path / "cache")
    facts, broken = examine_all(paths, first)
    first.save()
    assert sorted(reads) == paths and not broken
    reads.clear()
    assert examine_all(paths, PictureIndex(tmp_path / "cache")) == (facts, {})
    assert not reads
    assert facts[paths[0]] == examine(paths[0])


@pytest.mark.parametrize("change", ["time", "size"])
def test_a_changed_picture_is_read_again(tmp_path: Path, reads: list[Path], change: str) -> None:
    path = draw(tmp_path / "a.png")
    index = PictureIndex(tmp_path)
    before = index.examine(path)
    index.save()
    stamp = path.stat()
    if change == "size":
        draw(path, (20, 20), seed=1)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + (change == "time")))
    after = PictureIndex(tmp_path).examine(path)
    assert len(reads) == 2
    assert (after == before) == (change == "time")


def test_broken_pictures_are_told_and_tried_again(tmp_path: Path, reads: list[Path]) -> None:
    good, bad = draw(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:100])
    for _ in range(2):
        index = PictureIndex(tmp_path)
        facts, broken = examine_all([good, bad, tmp_path / "missing.png"], index)
        index.save()
        assert list(facts) == [good] and list(broken) == [bad, tmp_path / "missing.png"]
        assert "No such file" in broken[tmp_path / "missing.png"]
    assert reads.count(bad) == 2 and reads.count(good) == 1


def test_what_was_read_before_a_stop_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [draw(tmp_path / f"{number}.png", seed=number) for number in range(4)]
    monkeypatch.setattr(module, "CHUNK", 1)

    def stopped(path: Path) -> Facts:
        if path == paths[2]:
            raise KeyboardInterrupt
        return examine(path)

    monkeypatch.setattr(module, "examine", stopped)
    with pytest.raises(KeyboardInterrupt):
        examine_all(paths, PictureIndex(tmp_path / "cache"))
    kept = PictureIndex(tmp_path / "cache")
    assert [kept.get(path) is not None for path in paths] == [True, True, False, False]


def file_of(cache: Path) -> Path:
    """The one file of an index."""
    (file,) = (cache / "pictures").iterdir()
    return file


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", "3", '{"version": 2}', '{"version": 2, "pictures": []}', "\xff"]
)
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: str) -> None:
    path = draw(tmp_path / "in" / "a.png")
    for _ in range(2):
        index = PictureIndex(tmp_path / "cache")
        index.examine(path)
        index.save()
        assert PictureIndex(tmp_path / "cache").get(path) == examine(path)
        file_of(tmp_path / "cache").write_text(content, encoding="latin-1")
        assert PictureIndex(tmp_path / "cache").get(path) is None


def test_rows_of_another_form_are_not_believed(tmp_path: Path) -> None:
    path = draw(tmp_path / "in" / "a.png")
    index = PictureIndex(tmp_path)
    index.examine(path)
    index.save()
    whole = json.loads(file_of(tmp_path).read_text())
    assert whole["pictures"]["a.png"][:2] == [path.stat().st_size, path.stat().st_mtime_ns]
    stamp = whole["pictures"]["a.png"][:2]
    for row in ([], stamp, [*stamp, "x", "y", 3], 5, [True, 1, "x", 2, 3]):
        file_of(tmp_path).write_text(json.dumps(whole | {"pictures": {"a.png": row}}))
        assert PictureIndex(tmp_path).get(path) is None
    file_of(tmp_path).write_text(json.dumps(whole | {"version": 1}))
    assert PictureIndex(tmp_path).get(path) is None


def test_each_folder_has_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [draw(tmp_path / name / "a.png", seed=number) for number, name in enumerate("xy")]
    index = PictureIndex(tmp_path / "cache")
    facts, _ = examine_all(paths, index)
    index.save()
    assert len(list((tmp_path / "cache" / "pictures").iterdir())) == 2
    monkeypatch.chdir(tmp_path)
    again = PictureIndex(tmp_path / "cache")
    assert [again.get(Path(name) / "a.png") for name in "xy"] == list(facts.values()), "however it is written"


def test_two_processes_keep_each_other_s_rows(tmp_path: Path) -> None:
    paths = [draw(tmp_path / f"{number}.png", seed=number) for number in range(2)]
    both = [PictureIndex(tmp_path), PictureIndex(tmp_path)]
    for index, path in zip(both, paths, strict=True):
        index.examine(path)
    for index in both:
        index.save()
    assert all(PictureIndex(tmp_path).get(path) for path in paths)


def test_without_a_folder_nothing_is_written(tmp_path: Path) -> None:
    index = PictureIndex(None)
    index.examine(draw(tmp_path / "a.png"))
    index.save()
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    index = PictureIndex(draw(tmp_path / "a.png") / "cache")
    index.examine(tmp_path / "a.png")
    with pytest.raises(InputError, match="choose another cache_dir"):
        index.save()
