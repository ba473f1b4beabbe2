"""Files: whole or not at all."""

import errno
from pathlib import Path

import pytest

from library.files import (
    default_cache,
    expanded,
    is_full_disk,
    naming_full_disk,
    sweep_unfinished,
    why_unwritable,
    write_atomically,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, lambda unfinished: unfinished.write_text("old"))

    def fail(unfinished: Path) -> None:
        unfinished.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fail)
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    RuntimeError("I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:743] . PytorchStreamWriter failed writing file data/1"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_full_disk_is_known_in_every_wording(error: Exception) -> None:
    assert is_full_disk(error)
    with pytest.raises(OSError) as named, naming_full_disk(Path("a") / "file"):
        raise error
    assert named.value.errno == errno.ENOSPC and named.value.filename == str(Path("a") / "file")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no space left"), RuntimeError("wrong shape")], ids=str)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert not is_full_disk(error)
    with pytest.raises(type(error)) as same, naming_full_disk(Path("file")):
        raise error
    assert same.value is error


def test_folders_of_models_are_swept_but_where_one_takes_anothers_place(tmp_path: Path) -> None:
    for name in (".a.part", ".a-000001-ema.gone", ".b.part", ".a.gone.txt", ".a-000002.part", ".a-000002.gone"):
        (tmp_path / name / "unet").mkdir(parents=True)
    (tmp_path / "a-000002" / "unet").mkdir(parents=True)  # its index is on its way
    sweep_unfinished(tmp_path, "a")
    left = {".b.part", ".a.gone.txt", ".a-000002.part", ".a-000002.gone", "a-000002"}
    assert {path.name for path in tmp_path.iterdir()} == left
    (tmp_path / "a-000002" / "model_index.json").touch()
    sweep_unfinished(tmp_path, "a")
    assert {path.name for path in tmp_path.iterdir()} == {".b.part", ".a.gone.txt", "a-000002"}
    sweep_unfinished(tmp_path / "nowhere", "a")


def test_the_cache_is_where_the_system_keeps_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "easel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "easel"


def test_a_home_that_is_nobodys_stays_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a" and expanded("a/~") == Path("a/~")
    assert expanded("~nobody-has-this-name/a") == Path("~nobody-has-this-name/a")


def test_why_nothing_can_be_written(tmp_path: Path) -> None:
    """It is tried, and trying leaves nothing."""
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert why_unwritable(tmp_path) is None and why_unwritable(tmp_path / "new" / "a" / "b") is None
    assert why_unwritable(tmp_path / "file" / "a") == "Not a directory"
    assert why_unwritable(tmp_path / "circle" / "a") == "Too many levels of symbolic links"
    assert why_unwritable(tmp_path / ("a" * 300)) == "File name too long"
    assert why_unwritable(tmp_path / "a\x00b")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "circle"}
