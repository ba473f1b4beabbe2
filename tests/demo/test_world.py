"""The world's creatures: drawn again the same, inside the picture, in the colours that they are said to have."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from demo.world import (
    ACCESSORIES,
    BACKGROUNDS,
    BODY_COLORS,
    OUTLINE,
    PALETTE,
    PATTERNS,
    SHAPES,
    SIZE,
    draw,
    random_for,
    sample,
    second_tone,
    shape_polygon,
)

CREATURES = [sample(random_for(0, index)) for index in range(800)]


def test_the_same_seed_and_index_draw_the_same_picture() -> None:
    first, again = (draw(sample(random_for(3, 7))) for _ in range(2))
    assert first.size == (SIZE, SIZE) and first.mode == "RGB"
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != draw(sample(random_for(3, 8))).tobytes()
    assert random_for(3, 7, "world").random() != random_for(3, 7, "judge").random()


def test_every_attribute_takes_every_value_about_as_often() -> None:
    for name, values in {
        "background": BACKGROUNDS,
        "shape": SHAPES,
        "accessory": ACCESSORIES,
        "color": BODY_COLORS,
        "eyes": (1, 2),
    }.items():
        counts = Counter(getattr(creature, name) for creature in CREATURES)
        assert set(counts) == set(values)
        assert min(counts.values()) > 0.6 * len(CREATURES) / len(values), counts
    assert {creature.pattern for creature in CREATURES} == set(PATTERNS)


def test_body_and_accessory_are_independent() -> None:
    with_hat = Counter(creature.shape for creature in CREATURES if creature.accessory == "hat")
    assert min(with_hat.values()) > 0.12 * sum(with_hat.values())


def test_body_and_ground_differ_and_bodies_stay_inside() -> None:
    for creature in CREATURES:
        assert creature.color != creature.background
        corners = shape_polygon(creature.shape, creature.x, creature.y, creature.radius)
        edges = [value for corner in corners for value in corner]
        assert min(edges) >= OUTLINE / 2 and max(edges) <= SIZE - OUTLINE / 2, creature


@pytest.mark.parametrize("background", BACKGROUNDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_ground_has_its_colour_and_one_darker_tone(background: str, pattern: str) -> None:
    creature = replace(CREATURES[0], background=background, pattern=pattern, x=64.0, radius=24.0, accessory="none")
    rim = np.asarray(draw(creature))[:, :3].reshape(-1, 3)
    plain = (rim == PALETTE[background]).all(axis=1).mean()
    darker = (rim == second_tone(PALETTE[background])).all(axis=1).mean()
    assert plain + darker > 0.7
    assert (darker > 0.05) == (pattern != "plain")


@pytest.mark.parametrize("shape", SHAPES)
def test_bodies_are_filled_with_their_colour(shape: str) -> None:
    creature = replace(CREATURES[0], shape=shape, color="purple", background="white", accessory="none", radius=30.0)
    filled = (np.asarray(draw(creature)) == PALETTE["purple"]).all(axis=2).mean()
    assert 0.04 < filled < 0.25


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown shape 'oval'; shapes are round, square"):
        shape_polygon("oval", 64, 64, 30)


def test_words_of_colours_are_far_apart() -> None:
    names = list(PALETTE)
    for index, name in enumerate(names):
        for other in names[:index]:
            assert np.linalg.norm(np.subtract(PALETTE[name], PALETTE[other])) > 80, (name, other)
