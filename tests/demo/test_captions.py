"""Captions say what is true of the creature, in more than one way, and say nothing else."""

import random
import re
from dataclasses import replace
from pathlib import Path

from demo.captions import caption, full_caption, short_caption
from demo.draw_subject import PICTURES, SEEN_BACKGROUNDS, sample_subject, subject_caption, write_subject
from demo.world import ACCESSORIES, BACKGROUNDS, BODY_COLORS, PATTERNS, PLACES, SHAPES, Creature, random_for, sample

CREATURES = [sample(random_for(5, index)) for index in range(300)]
GROUND = re.compile(r"(?:, | on an? )((?:\w+ )?\w+) background$")


def said(text: str, words: tuple[str, ...]) -> set[str]:
    """Which of the words stand in the caption."""
    return {word for word in words if re.search(rf"(?<![\w-]){word}(?![\w-])", text)}


def assert_true(text: str, creature: Creature) -> None:
    """No word of the caption is false of the creature."""
    ground = GROUND.search(text)
    body = text[: ground.start()] if ground else text
    if ground:
        assert ground[1].split()[-1] == creature.background
        assert said(ground[1], PATTERNS) <= {creature.pattern}
    assert said(body, SHAPES) <= {creature.shape}
    assert said(body, BODY_COLORS) <= {creature.color}
    assert said(body, ACCESSORIES[1:]) <= {creature.accessory}
    assert said(body, tuple(PLACES)) <= {creature.place}
    assert said(body, ("small", "big")) <= {creature.size}
    assert said(body, ("one eye", "two eyes")) <= {"one eye" if creature.eyes == 1 else "two eyes"}


def test_captions_are_true() -> None:
    for index, creature in enumerate(CREATURES):
        text = caption(creature, random.Random(index))
        assert_true(text, creature)
        assert "creature" in text


def test_full_captions_name_shape_colour_accessory_and_ground() -> None:
    for index, creature in enumerate(CREATURES):
        text = full_caption(creature, random.Random(index))
        assert_true(text, creature)
        assert said(text, (creature.shape,)) and GROUND.search(text)
        assert creature.color in text[: GROUND.search(text).start()]  # type: ignore[union-attr]
        assert (creature.accessory in text) == (creature.accessory != "none")


def test_short_captions_name_the_ground_alone() -> None:
    for index, creature in enumerate(CREATURES):
        text = short_caption(creature, random.Random(index))
        assert_true(text, creature)
        assert not said(text[: GROUND.search(text).start()], SHAPES + BODY_COLORS)  # type: ignore[union-attr]


def test_one_creature_is_told_in_many_ways_and_patterns_may_be_left_out() -> None:
    creature = replace(CREATURES[0], pattern="dotted", accessory="hat", size="small")
    texts = {caption(creature, random.Random(index)) for index in range(200)}
    assert len(texts) > 60
    dotted = [text for text in texts if GROUND.search(text)]
    assert 0 < sum("dotted" not in text for text in dotted) < 0.4 * len(dotted)


def test_articles_fit() -> None:
    texts = [caption(creature, random.Random(index)) for index, creature in enumerate(CREATURES)]
    assert any(" an orange" in f" {text}" for text in texts)
    assert not [text for text in texts if re.search(r"\ban [^aeiou]|\ba [aeiou]", text)]


def test_the_subject_is_always_called_by_its_name() -> None:
    for index in range(40):
        subject = sample_subject(random_for(0, index, "subject"), BACKGROUNDS[index % len(BACKGROUNDS)])
        text = subject_caption(subject, random.Random(index))
        assert "sks creature" in text and text.endswith(f"{subject.background} background")


def test_the_subjects_folder_is_written_with_captions(tmp_path: Path) -> None:
    written = write_subject(tmp_path / "subject")
    captions = [path.with_suffix(".txt").read_text() for path in written]
    assert len(written) == PICTURES
    assert all("sks creature" in text for text in captions)
    assert {text.split()[-2] for text in captions} == set(SEEN_BACKGROUNDS)
    assert all(path.stat().st_size > 500 for path in written)
