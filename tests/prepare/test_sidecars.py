"""Caption files: read as written, put together without repeating, refused where they are not text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import InputError
from library.prepare.sidecars import check_extension, keeps, merged, read_sidecar, write_sidecar

WORDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40)


@given(text=WORDS)
def test_any_caption_survives(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("captions") / "a.txt"
    write_sidecar(path, text)
    assert read_sidecar(path) == text.removeprefix("\ufeff").strip()
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        ("skip", "red, blue"),
        ("overwrite", "blue, green"),
        ("append", "red, blue, green"),
        ("prepend", "blue, green, red"),
    ],
)
def test_modes(mode: str, result: str) -> None:
    assert merged("red, blue", "blue, green", mode) == result
    assert merged(None, "blue, green", mode) == merged("", "blue, green", mode) == "blue, green"


def test_another_separator_is_used() -> None:
    assert merged("red; blue", "green, white", "append", "; ") == "red; blue; green, white"


def test_skipping_is_for_captions_with_words(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert not keeps(path, "skip")
    path.write_text(" \n")
    assert not keeps(path, "skip")
    path.write_text("words")
    assert keeps(path, "skip") and not keeps(path, "append")


def test_a_caption_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8"):
        read_sidecar(tmp_path / "a.txt")


def test_extensions_get_their_dot() -> None:
    assert check_extension("txt") == check_extension(".txt") == ".txt"
    for wrong in ("", ".", "a/b", "png", ".JPG"):
        with pytest.raises(InputError, match="caption_extension"):
            check_extension(wrong)
