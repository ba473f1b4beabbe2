"""The judge of captions believes the world's own captions, and finds each kind of lie."""

from dataclasses import replace

import pytest

from demo.captions import full_caption
from demo.judge_captions import GOALS, agreement, card, falsehoods, said_ground, shares
from demo.world import Creature, random_for, sample

CREATURE = replace(
    sample(random_for(0, 0)),
    shape="star-shaped",
    color="red",
    eyes=1,
    accessory="bow",
    size="small",
    place="left",
    background="blue",
    pattern="dotted",
)
TRUE = "a small red star-shaped creature with a bow and one eye on the left on a dotted blue background"


def wrong(caption: str, creature: Creature = CREATURE) -> set[str]:
    """What the judge finds wrong."""
    return {name for name, right in agreement(caption, creature).items() if not right}


def test_the_worlds_own_captions_are_right() -> None:
    for index in range(300):
        creature = sample(random_for(3, index))
        assert wrong(full_caption(creature, random_for(4, index)), creature) == set()


@pytest.mark.parametrize(
    ("there", "instead", "found"),
    [
        ("dotted blue", "red", "background"),
        (", dotted blue background", "", "background"),
        ("red star", "blue star", "body"),
        ("red star", "star", "body"),
        ("star-shaped", "round", "shape"),
        ("star-shaped", "star-shaped round", "shape"),
        ("a bow", "a hat", "accessory"),
        (" with a bow and", " with", "accessory"),
        ("a bow", "a bow and a hat", "accessory"),
        ("small", "big", "nothing false"),
        ("small", "medium", "nothing false"),
        ("left", "right", "nothing false"),
        ("one eye", "two eyes", "nothing false"),
        ("dotted", "striped", "nothing false"),
    ],
)
def test_every_lie_is_found(there: str, instead: str, found: str) -> None:
    caption = TRUE if there in TRUE else TRUE.replace(" on a dotted blue background", ", dotted blue background")
    assert wrong(TRUE) == set() and there in caption
    missing = wrong(caption.replace(there, instead))
    assert missing == ({found} if found == "nothing false" else {found, "all four"})


def test_what_is_not_said_is_not_false() -> None:
    assert falsehoods("a red star-shaped creature", CREATURE) == []
    assert falsehoods("a medium creature in the center", replace(CREATURE, size="normal", place="center")) == []
    assert wrong("creature, blue background", replace(CREATURE, accessory="none")) == {"body", "shape", "all four"}


def test_grounds() -> None:
    assert said_ground("sks creature on a blue background") == "blue"
    assert said_ground("sks creature, background") is None and said_ground("a cat") is None


def test_shares_and_the_card() -> None:
    figures = shares([dict.fromkeys(GOALS, True), dict.fromkeys(GOALS, True) | {"shape": False}])
    assert figures == dict.fromkeys(GOALS, 1.0) | {"shape": 0.5}
    counts = ("size", "words", "pictures", "steps", "seed", "batch", "judged", "beams", "subject", "subject_right")
    facts = dict.fromkeys(counts, 7) | dict.fromkeys(("minutes", "parameters", "megabytes", "speed"), 1.5)
    text = card({**facts, "machine": "two cores"}, figures)
    assert "| shape | 50.0 % | 95 % |" in text and "| machine | two cores |" in text and "7 of its 7 pictures" in text
