"""A picture is named by its content, not by where it lies."""

from dataclasses import replace
from pathlib import Path

from library.data.folders import Subset
from tests.data.samples import imagined

PICTURE = imagined("content", Subset(image_dir=Path("in"), resolution=(64, 128)), size=(300, 200))


def test_the_key_is_content_and_copy() -> None:
    moved = replace(PICTURE, path=Path("elsewhere.png"), caption="other")
    assert moved.key == PICTURE.key
    assert len({PICTURE.key, replace(PICTURE, copy=1).key, replace(PICTURE, sha256="other").key}) == 3


def test_the_size_is_that_of_the_bucket() -> None:
    assert PICTURE.size == (64, 128)
    assert PICTURE.placing.resized == (192, 128)
