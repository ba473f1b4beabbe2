"""What the tests of the trainer share: a toy model, pictures, and a place to train in."""

from pathlib import Path

import pytest

from library.log import warn
from tests.runs import Bench, draw_pictures
from tests.toys import write_toy_sd1


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model's folder, which no test may change."""
    return write_toy_sd1(tmp_path_factory.mktemp("toy_model"))


@pytest.fixture(scope="session")
def toy_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of 64 x 64 pixels with captions, which no test may change."""
    return draw_pictures(tmp_path_factory.mktemp("toy_pictures"))


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all tests."""
    return tmp_path_factory.mktemp("toy_cache")


@pytest.fixture
def bench(toy_model: Path, toy_pictures: Path, toy_cache: Path, tmp_path: Path) -> Bench:
    """The toy model and pictures, with folders of this test's own to write in; warnings are said anew."""
    warn.cache_clear()
    return Bench(toy_model, toy_pictures, tmp_path, toy_cache)
