"""Stamps: a program knows its own pictures and leaves those of others alone."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from library.errors import InputError
from library.prepare.stamps import is_current, remove_stamped, save_stamped, stamp_of

PICTURE = Image.new("RGB", (8, 8), "red")


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@given(stamp=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=80))
def test_any_stamp_is_read_back(tmp_path_factory: pytest.TempPathFactory, ending: str, stamp: str) -> None:
    path = tmp_path_factory.mktemp("stamps") / f"a{ending}"
    save_stamped(PICTURE, path, stamp)
    assert stamp_of(path) == stamp
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_same_picture_gives_the_same_file_and_the_pixels_are_kept(tmp_path: Path) -> None:
    noise = Image.effect_noise((40, 30), 60).convert("RGB")
    for name in ("a.png", "b.png"):
        save_stamped(noise, tmp_path / name, "words")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), np.asarray(noise))


def test_quality_is_that_of_the_jpeg(tmp_path: Path) -> None:
    noise = Image.effect_noise((64, 64), 60).convert("RGB")
    sizes = []
    for quality in (30, 95):
        save_stamped(noise, tmp_path / "a.jpg", "words", quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes[1] > 1.5 * sizes[0]


def test_nothing_of_the_original_is_written_but_its_pixels(tmp_path: Path) -> None:
    picture = PICTURE.copy()
    picture.info = {"icc_profile": b"of a camera", "transparency": (255, 0, 0), "comment": b"of a person"}
    for name in ("a.png", "a.jpg"):
        save_stamped(picture, tmp_path / name, "words")
        assert not {"icc_profile", "transparency"} & Image.open(tmp_path / name).info.keys()
        assert stamp_of(tmp_path / name) == "words"
    assert "icc_profile" in picture.info


def test_what_others_made_is_known_and_stays(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    PICTURE.save(tmp_path / "a.jpg", comment="mine")
    (tmp_path / "text.png").write_text("no picture")
    for name in ("a.png", "a.jpg", "text.png"):
        with pytest.raises(InputError, match="not made by this program"):
            stamp_of(tmp_path / name)
        remove_stamped(tmp_path / name)
        assert (tmp_path / name).exists()
    assert stamp_of(tmp_path / "gone.png") is None
    remove_stamped(tmp_path / "gone.png")


def test_own_work_can_be_removed(tmp_path: Path) -> None:
    save_stamped(PICTURE, tmp_path / "a.png", "words")
    remove_stamped(tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_current_is_what_has_the_stamp_and_is_not_older(tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "a.png"
    source.write_text("")
    assert not is_current(path, source, "words")
    save_stamped(PICTURE, path, "words")
    assert is_current(path, source, "words") and not is_current(path, source, "word")
    after = path.stat().st_mtime + 10
    os.utime(source, (after, after))
    assert not is_current(path, source, "words")
