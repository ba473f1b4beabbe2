"""Creatures in plain words: several phrasings, with attributes sometimes left out."""

import random

from demo.world import Creature

EYES = {1: "one eye", 2: "two eyes"}


def _background(creature: Creature, rng: random.Random) -> str:
    """The words for the ground; a pattern is nearly always named, so that a plain colour word means plain."""
    named = creature.pattern != "plain" and rng.random() < 0.9
    ground = f"{creature.pattern} {creature.background}" if named else creature.background
    return f"{ground} background"


def _article(words: str) -> str:
    """`words` with a or an in front."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def short_caption(creature: Creature, rng: random.Random) -> str:
    """Only the ground is named: "creature on a blue background"."""
    ground = _background(creature, rng)
    who = rng.choices(("creature", "a creature"), weights=(2, 1))[0]
    if rng.random() < 0.1:
        return f"{who}, {ground}"
    return f"{who} on {_article(ground)}"


def full_caption(creature: Creature, rng: random.Random) -> str:
    """Shape, colour, accessory and ground always; size, place and eyes now and then."""
    return _long_caption(creature, rng, [creature.shape, creature.color], ground=True)


def caption(creature: Creature, rng: random.Random) -> str:
    """A caption that is true of the creature, drawn from all the phrasings."""
    kind = rng.random()
    if kind < 0.25:
        return short_caption(creature, rng)
    if kind < 0.80:
        return full_caption(creature, rng)
    words = [creature.shape, creature.color]
    words.pop(rng.randrange(2))
    return _long_caption(creature, rng, words, ground=rng.random() < 0.8)


def _long_caption(creature: Creature, rng: random.Random, words: list[str], ground: bool) -> str:
    """Put together what is said; an accessory is never kept silent here, so silence means none."""
    words = list(words)
    rng.shuffle(words)
    if rng.random() < (0.7 if creature.size != "normal" else 0.05):
        words.insert(0, "medium" if creature.size == "normal" else creature.size)
    text = _article(" ".join([*words, "creature"]))
    if rng.random() < 0.2:
        text = text.split(" ", 1)[1]
    extras = []
    if creature.accessory != "none":
        extras.append(f"a {creature.accessory}")
    if rng.random() < 0.35:
        extras.append(EYES[creature.eyes])
    if extras:
        text += " with " + " and ".join(extras)
    if rng.random() < (0.7 if creature.place != "center" else 0.1):
        text += " in the center" if creature.place == "center" else f" on the {creature.place}"
    if ground:
        words_of_ground = _background(creature, rng)
        text += f", {words_of_ground}" if rng.random() < 0.3 else f" on {_article(words_of_ground)}"
    return text
