"""Targets: every picture gets a file of its own, and none of them lies among the originals."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import InputError
from library.log import warn
from library.prepare.targets import find_sources, place_targets, warn_of_others


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    warn.cache_clear()


def touch(folder: Path, *names: str) -> list[Path]:
    """Empty files."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def places(names: list[str]) -> dict[str, str]:
    """Where files of these names go, relative to the folders."""
    folder, output = Path("in"), Path("out")
    targets = place_targets([folder / name for name in names], folder, output, ".png")
    pairs = {source.relative_to(folder): target.relative_to(output) for source, target in targets.items()}
    return {source.as_posix(): target.as_posix() for source, target in pairs.items()}


def test_folders_are_mirrored() -> None:
    assert places(["a.jpg", "x/a.webp", "x.y/b.c.heic"]) == {
        "a.jpg": "a.png",
        "x/a.webp": "x/a.png",
        "x.y/b.c.heic": "x.y/b.c.png",
    }


def test_pictures_of_one_name_do_not_overwrite_one_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert places(["a.JPG", "a.png", "a_png.webp", "B.png", "b.bmp", "c.jpg", "c.JPG"]) == {
        "a.JPG": "a_jpg.png",
        "a.png": "a_png_2.png",
        "a_png.webp": "a_png.png",
        "B.png": "B_png.png",
        "b.bmp": "b_bmp.png",
        "c.jpg": "c_jpg.png",
        "c.JPG": "c_jpg_2.png",
    }
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 6 and "a.JPG is written as a_jpg.png" in said[0]


STEMS, KINDS = ("a", "A", "a_png", "a_jpg", "b", "a_png_2"), (".png", ".jpg", ".PNG", ".webp")


@given(st.sets(st.tuples(st.sampled_from(STEMS), st.sampled_from(KINDS)), min_size=1))
def test_any_names_stay_apart(pairs: set[tuple[str, str]]) -> None:
    names = sorted(stem + kind for stem, kind in pairs)
    found = places(names)
    assert list(found) == names
    assert len({target.casefold() for target in found.values()}) == len(names)


def test_what_lies_in_the_output_is_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "a.gif", "in/b.png", "cropped/a.png", "cropped/in/b.png")
    found = find_sources(tmp_path, tmp_path / "cropped", recursive=True)
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.gif", "in/b.png"]
    touch(tmp_path, "alone/out/a.png")
    with pytest.raises(InputError, match="besides those"):
        find_sources(tmp_path / "alone", tmp_path / "alone" / "out", recursive=True)


def test_a_link_that_leads_nowhere_is_a_source_to_be_named(tmp_path: Path) -> None:
    circle = tmp_path / "circle.png"
    circle.symlink_to(circle)
    assert find_sources(tmp_path, tmp_path / "out", False) == [circle]


def test_the_originals_cannot_be_written_over(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for output in ("photos", "photos/../photos", "link"):
        with pytest.raises(InputError, match="not altered"):
            find_sources(tmp_path / "photos", tmp_path / output, False)
    with pytest.raises(InputError, match="lies inside"):
        find_sources(tmp_path / "photos", tmp_path, False)
    with pytest.raises(InputError, match="is a file"):
        find_sources(tmp_path / "photos", tmp_path / "photos" / "a.png", False)
    with pytest.raises(InputError, match="does not exist"):
        find_sources(tmp_path / "gone", tmp_path / "gone", False)


def test_other_pictures_in_the_output_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = touch(tmp_path, "a.png", "in/a.png")
    warn_of_others([*made, tmp_path / "not there yet" / "b.png"], made)
    assert capsys.readouterr().err == ""
    touch(tmp_path, "1.png", "2.jpg", "3.png", "4.png", "a-masklabel.png", "a.txt")
    warn_of_others(made, made)
    said = capsys.readouterr().err
    assert "holds pictures not of this run (1.png, 2.jpg, 3.png, ...)" in said
