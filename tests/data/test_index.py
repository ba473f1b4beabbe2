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


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "pictures": []}']
)
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: str) -> None:
    path = draw(tmp_path / "a.png")
    (tmp_path / "pictures.json").write_text(content)
    index = PictureIndex(tmp_path)
    assert index.get(path) is None
    index.examine(path)
    index.save()
    assert PictureIndex(tmp_path).get(path) == examine(path)


def test_rows_of_another_form_are_not_believed(tmp_path: Path) -> None:
    path = draw(tmp_path / "a.png")
    stamp = [path.stat().st_size, path.stat().st_mtime_ns]
    for row in ([], stamp, [*stamp, "x", "y", 3], 5):
        rows = {str(path.resolve()): row}
        (tmp_path / "pictures.json").write_text(json.dumps({"version": 1, "pictures": rows}))
        assert PictureIndex(tmp_path).get(path) is None


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
