"""The undo journal: whole before anything is touched, true to the byte, and never trusted blindly."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import InputError
from library.prepare.journal import FOLDER, Change, last_entry, make, record, way_back

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
STARTS = st.sampled_from(["", "\ufeff"])
BEFORE = st.none() | st.builds(lambda start, text: (start + text).encode(), STARTS, TEXTS)


def undo(folder: Path) -> list[Path]:
    """Takes the last edit back; the files that were not as the edit left them."""
    entry = last_entry(folder)
    changes, foreign = way_back(entry)
    for change in changes:
        make(change)
    entry.forget()
    return foreign


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by its path there."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@given(befores=st.lists(BEFORE, min_size=1, max_size=4), text=TEXTS, reached=st.integers(0, 4))
def test_any_edit_even_half_made_is_undone_to_the_byte(
    tmp_path_factory: pytest.TempPathFactory, befores: list[bytes | None], text: str, reached: int
) -> None:
    folder = tmp_path_factory.mktemp("captions")
    changes = []
    for number, before in enumerate(befores):
        path = folder / f"{number}.txt"
        if before is not None:
            path.write_bytes(before)
        changes.append(Change(path, before, text.encode()))
    start = content_of(folder)
    record(folder, changes, "an edit")
    for change in changes[:reached]:
        make(change)
    assert undo(folder) == []
    assert content_of(folder) == start
    assert not (folder / FOLDER).exists()


def test_edits_are_undone_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.txt"
    path.parent.mkdir()
    path.write_bytes(b"one")
    for before, after in ((b"one", b"two"), (b"two", b"three")):
        change = Change(path, before, after)
        record(tmp_path, [change], f"to {after.decode()}")
        make(change)
    assert last_entry(tmp_path).command == "to three"
    undo(tmp_path)
    assert path.read_bytes() == b"two"
    undo(tmp_path)
    assert path.read_bytes() == b"one"
    with pytest.raises(InputError, match="nothing to undo"):
        last_entry(tmp_path)


@pytest.mark.parametrize("by_hand", [b"by hand", None])
def test_what_was_changed_since_is_told(tmp_path: Path, by_hand: bytes | None) -> None:
    changes = [Change(tmp_path / name, b"old", b"new") for name in ("a.txt", "b.txt")]
    record(tmp_path, changes, "")
    for change in changes:
        make(change)
    make(Change(tmp_path / "a.txt", b"new", by_hand))
    back, foreign = way_back(last_entry(tmp_path))
    assert foreign == [tmp_path / "a.txt"]
    assert back == [Change(tmp_path / "a.txt", by_hand, b"old"), Change(tmp_path / "b.txt", b"new", b"old")]


def test_without_a_journal_there_is_no_edit(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file in its place")
    with pytest.raises(InputError, match="nothing was edited"):
        record(tmp_path, [Change(tmp_path / "a.txt", None, b"new")], "")


def test_a_journal_that_was_not_finished_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("library.files.os.replace", fails)
    with pytest.raises(InputError, match="No space left"):
        record(tmp_path, [Change(tmp_path / "a.txt", None, b"new")], "")
    with pytest.raises(InputError, match="nothing to undo"):
        last_entry(tmp_path)


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "in/../../out.txt"])
def test_a_journal_from_elsewhere_reaches_no_file_outside(tmp_path: Path, name: str) -> None:
    path = record(tmp_path, [Change(tmp_path / "a.txt", b"old", b"new")], "")
    path.write_text(path.read_text().replace("a.txt", name))
    with pytest.raises(InputError, match="damaged"):
        last_entry(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"version": 2, "captions": []})])
def test_a_damaged_journal_is_refused(tmp_path: Path, content: str) -> None:
    record(tmp_path, [Change(tmp_path / "a.txt", b"old", b"new")], "").write_text(content)
    with pytest.raises(InputError, match="damaged or of another version"):
        last_entry(tmp_path)


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "shared.txt").write_bytes(b"old")
    (tmp_path / "a.txt").symlink_to("shared.txt")
    make(Change(tmp_path / "a.txt", b"old", b"new"))
    assert (tmp_path / "a.txt").is_symlink()
    assert (tmp_path / "shared.txt").read_bytes() == b"new"
