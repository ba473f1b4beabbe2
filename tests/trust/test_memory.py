"""Runs for which the memory does not suffice that `ulimit -v` leaves them: one sentence that says what takes less."""

import sys
from typing import Any

import pytest

from tests.runs import Bench, draw_pictures
from tests.trust.processes import start, status_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep such limits")

MB = 10**6
LARGE = {"resolution": 256, "train_batch_size": 7, "max_train_steps": 1, "network_train_unet_only": True}


@pytest.fixture
def place(bench: Bench) -> Bench:
    """Pictures that fill the memory, seven at once."""
    return Bench(bench.model, draw_pictures(bench.folder / "large", 7, (256, 256)), bench.folder, bench.cache)


def under(room: int, bench: Bench, **settings: Any) -> tuple[int, str]:
    """Status of a run that may get so many MB, and what it said."""
    log = bench.folder / "log"
    log.unlink(missing_ok=True)
    status = status_of(start(bench.argv(**{**LARGE, **settings}), log, room=room * MB))
    return status, log.read_text()


def assert_one_sentence(told: str, *words: str) -> None:
    """The last line is it, and has the words."""
    *_, last = told.strip().splitlines()
    assert "Traceback" not in told and told.count("error: ") == 1
    assert last.startswith("error: ") and all(word in last for word in words), last


def test_too_little_for_the_models(place: Bench) -> None:
    status, told = under(40, place)
    assert status == 1
    assert_one_sentence(told, "the memory is full; lower train_batch_size or resolution, set gradient_checkpointing")
    assert not list(place.output.rglob("*.safetensors"))


@pytest.mark.long
def test_too_little_for_a_step(place: Bench) -> None:
    place.at("before").train(**{**LARGE, "train_batch_size": 1})  # the latents are there then
    status, told = under(260, place)
    assert status == 1
    # Which of the settings fit, or that none do, is seen in tests/train/test_fitting.py.
    assert_one_sentence(told, "can't allocate memory", "the memory is full, and", "are predicted for these settings; ")
