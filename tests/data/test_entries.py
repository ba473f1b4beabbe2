"""Entries on disk: what is written is read, and nothing that is damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from library.data.entries import entry_path, read_entry, write_entry
from library.errors import InputError

NAMES = ("first", "second")
FIRST, SECOND = torch.arange(48.0).view(3, 4, 4), -torch.ones(3, 4, 4)
TENSORS = {"first": FIRST, "second": SECOND}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A whole entry."""
    path = entry_path(tmp_path, ("what", 1))
    write_entry(path, TENSORS)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = entry_path(tmp_path, ("made", "from"))
    assert read_entry(path, NAMES) is None
    write_entry(path, {"first": FIRST.clone().requires_grad_(), "second": SECOND.half()})
    first, second = read_entry(path, NAMES) or ()
    assert torch.equal(first, FIRST) and torch.equal(second, SECOND)
    assert first.dtype == second.dtype == torch.float32 and not first.requires_grad


def test_other_names_are_no_entry(path: Path) -> None:
    assert read_entry(path, ("first",)) is None
    assert read_entry(path, ("second", "first")) is None
    assert read_entry(path, ("first", "third")) is None


def test_the_parts_are_the_name(tmp_path: Path) -> None:
    paths = {entry_path(tmp_path, parts) for parts in (("a", "b"), ("ab",), ("a", "b", ""), ("b", "a"), ("a", 1))}
    assert len(paths) == 5
    assert entry_path(tmp_path, ("a", 1)) == entry_path(tmp_path, ["a", "1"])
    assert all(path.suffix == ".safetensors" and path.parent.parent == tmp_path for path in paths)


def cut(content: bytes) -> bytes:
    return content[:-7]


def cut_in_header(content: bytes) -> bytes:
    return content[:20]


def emptied(_: bytes) -> bytes:
    return b""


def replaced(content: bytes) -> bytes:
    return b"<html>no such page</html>" * len(content)


@pytest.mark.parametrize("damage", [cut, cut_in_header, emptied, replaced])
def test_a_damaged_entry_is_none(path: Path, damage: Callable[[bytes], bytes]) -> None:
    assert read_entry(path, NAMES) is not None
    path.write_bytes(damage(path.read_bytes()))
    assert read_entry(path, NAMES) is None


def test_no_changed_byte_goes_unnoticed(path: Path) -> None:
    content = path.read_bytes()
    for place in range(0, len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x11]) + content[place + 1 :])
        found = read_entry(path, NAMES)
        assert found is None or (torch.equal(found[0], FIRST) and torch.equal(found[1], SECOND))


def test_a_failing_write_leaves_the_old_entry_and_no_rest(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="No space left on device.*choose another cache_dir"):
        write_entry(path, {"first": FIRST * 2, "second": SECOND})
    monkeypatch.undo()
    first, _ = read_entry(path, NAMES) or ()
    assert torch.equal(first, FIRST)
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [path]
