"""Means and largest cosines, and the means of groups, against numbers worked out by hand."""

from pathlib import Path

import pytest
import torch

from library.scoring.scores import Score, Summary, against_pictures, summaries

FILES = [Path("a.png"), Path("b.png")]


def test_against_pictures() -> None:
    drawn = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    trained = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert against_pictures(drawn, trained, FILES) == [
        (0.5, 1.0, FILES[0]),
        (pytest.approx(0.7), pytest.approx(0.8), FILES[1]),
    ]


def test_groups_have_means_of_what_is_there() -> None:
    scores = [
        Score(Path("1.png"), "b", "x", 0.5, 0.9, FILES[0], 0.25),
        Score(Path("2.png"), "a", None, 0.25, 0.5, FILES[0]),
        Score(Path("3.png"), "b", None, 0.75, 0.7, FILES[1]),
    ]
    assert summaries(scores) == [
        Summary("a", 1, 0.25, 0.5, None),
        Summary("b", 2, 0.625, pytest.approx(0.8), 0.25),
    ]
