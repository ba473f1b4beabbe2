"""Folders into which nothing can be written are found by trying, and trying leaves nothing."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from library.errors import InputError
from library.settings import Settings
from library.train.places import check_places


def told(tmp_path: Path, **folders: Path | None) -> Settings:
    """Settings whose folders lie in one place, but for some."""
    usual = {"output_dir": tmp_path / "a" / "b", "logging_dir": tmp_path / "logs", "cache_dir": tmp_path / "cache"}
    return Settings(**{**usual, **folders})


def test_good_places_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    check_places(told(tmp_path))
    assert [path.name for path in tmp_path.rglob("*")] == ["logs"]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_what_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        check_places(told(tmp_path, output_dir=Path("/proc/out"), logging_dir=Path("/proc/self/logs")))
    assert [sentence.split()[0] for sentence in error.value.sentences] == ["output_dir", "logging_dir"]
    assert not list(tmp_path.iterdir())


def test_the_cache_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        check_places(told(tmp_path, cache_dir=None))


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="logging_dir"):
        check_places(told(tmp_path, logging_dir=tmp_path / "new" / ("a" * 300)))
    assert not list(tmp_path.iterdir())


def test_several_processes_try_at_once(tmp_path: Path) -> None:
    """None takes away what another has made."""
    settings = told(tmp_path, output_dir=tmp_path / "a" / "b" / "c")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(check_places, [settings] * 200)) == [None] * 200
    assert not list(tmp_path.iterdir())
