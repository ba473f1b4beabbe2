"""A run that is killed at any moment, also in a save, and resumed any number of times ends as the unbroken one."""

from pathlib import Path
from typing import Any

import pytest

from tests.runs import Bench, draw_pictures
from tests.trust.kills import Kills, campaign
from tests.trust.processes import start, status_of

# Five pictures in batches of two, so that epochs end in the middle of what is saved; everything random is on.
RUN: dict[str, Any] = {
    "max_train_steps": 12,
    "lr_scheduler": "cosine",
    "network_dropout": 0.2,
    "flip_aug": True,
    "shuffle_caption": True,
    "caption_dropout_rate": 0.2,
    "ema": True,
    "save_state": True,
    "save_every_n_steps": 1,
    "save_last_n_steps": 2,
    "save_every_n_epochs": 1,
    "save_last_n_epochs": 2,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Bench:
    """Five pictures with a cache of their own."""
    folder = tmp_path_factory.mktemp("kills")
    return Bench(toy_model, draw_pictures(folder / "five", 5), folder, folder / "cache")


@pytest.fixture(scope="module")
def unbroken(place: Bench) -> Bench:
    """The run that nobody disturbs."""
    bench = place.at("unbroken")
    assert status_of(start(bench.argv(**RUN), bench.folder / "log")) == 0
    return bench


def test_a_few_kills(place: Bench, unbroken: Bench) -> None:
    *_, told = campaign(place.at("few"), unbroken, RUN, 1, lambda kills: kills.all >= 6, at_most=6)
    assert told.all >= 6


@pytest.mark.long
def test_a_hundred_kills(place: Bench, unbroken: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 100 kills, 20 of them while a file was half written."""

    def is_enough(kills: Kills) -> bool:
        return kills.all >= 110 and kills.inside_a_save >= 30

    *_, told = campaign(place.at("many"), unbroken, RUN, 2026, is_enough, at_most=12)
    with capsys.disabled():
        print(f"\n{told}")
    assert told.all >= 100 and told.inside_a_save >= 20
