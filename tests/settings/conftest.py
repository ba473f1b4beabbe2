"""A folder with pictures' place in it, and settings read as a program reads them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from library import log
from library.errors import InputError
from library.settings import Settings, read_settings

Reader = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts in a folder with pictures/ in it, and with all warnings still unsaid."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    log.warn.cache_clear()


@pytest.fixture
def read() -> Reader:
    """Reads settings from words and the text of a TOML file, with a model and pictures if `complete`."""

    def _read(*words: str, toml: str = "", complete: bool = True) -> Settings:
        argv = (
            ["--pretrained_model_name_or_path", "someone/sd15", "--train_data_dir", "pictures"]
            if complete
            else []
        )
        if toml:
            Path("run.toml").write_text(toml, encoding="utf-8")
            argv += ["--config", "run.toml"]
        return read_settings([*argv, *words])

    return _read


@pytest.fixture
def complaints(read: Reader) -> Callable[..., tuple[str, ...]]:
    """The sentences with which reading the same arguments is refused; none where it is not."""

    def _complaints(*words: str, toml: str = "", complete: bool = True) -> tuple[str, ...]:
        try:
            read(*words, toml=toml, complete=complete)
        except InputError as error:
            return error.sentences
        return ()

    return _complaints
