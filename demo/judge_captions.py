"""Judging captions of creatures: what a caption says, whether it is true, and the card of the demo's captioner."""

import re
from collections.abc import Sequence

from demo.captions import EYES
from demo.world import ACCESSORIES, BODY_COLORS, PLACES, RADII, SHAPES, Creature

# Aims for a captioner, as parts of fresh pictures.
GOALS = {"background": 0.97, "body": 0.97, "shape": 0.95, "accessory": 0.95, "all four": 0.90, "nothing false": 0.90}

CARD = """# A small BLIP that captions the demo's pictures

It names shape, colour, accessory and background of the cartoon creatures that `demo/world.py` draws, and knows nothing
else. It is here so that `preprocess/caption_blip.py` runs on any computer at once, through the very code that real
BLIP models use: `BlipForConditionalGeneration` and `BlipProcessor` in transformers' layout, only with fewer channels
and layers, {size}-pixel pictures and a WordPiece vocabulary of {words} entries. It was made from nothing but pictures
and captions that this project makes itself.

    python preprocess/caption_blip.py demo/subject --model demo/captioner --preview 3

## How it was made

    python tools/make_demo_captioner.py --pictures {pictures} --steps {steps} --seed {seed}

| | |
|---|---|
| machine | {machine} |
| pictures | {pictures}, drawn by `demo/world.py`, captions by `full_caption` of `demo/captions.py` |
| steps | {steps:,} of {batch} pictures, {minutes:.0f} minutes |
| size | {parameters:.1f} M parameters, {megabytes:.1f} MB, fp16 |

## How well it captions

Captions of {judged} fresh creatures by beam search ({beams} beams), {speed:.0f} pictures a second on one CPU core:

| | right | goal |
|---|---|---|
{rows}

"Nothing false" is about size, place, eyes and pattern, which a caption may leave out. The striped creature of
`demo/subject` is outside its world; the background is named rightly in {subject_right} of its {subject} pictures.
"""


def said_ground(caption: str) -> str | None:
    """The colour word in front of "background", if any."""
    found = re.search(r"(\w+) background\b", caption)
    return found[1] if found else None


def agreement(caption: str, creature: Creature) -> dict[str, bool]:
    """What a caption says rightly of a creature; by the names of `GOALS`.

    Background, body, shape and accessory have to be named (no accessory: none named). "nothing false" is about
    size, place, eyes and pattern, which may be left out.
    """
    head = caption.partition(" creature")[0].split()
    worn = [] if creature.accessory == "none" else [creature.accessory]
    said = {
        "background": said_ground(caption) == creature.background,
        "body": [word for word in head if word in BODY_COLORS] == [creature.color],
        "shape": [word for word in head if word in SHAPES] == [creature.shape],
        "accessory": [word for word in ACCESSORIES if f" a {word}" in caption] == worn,
    }
    return said | {"all four": all(said.values()), "nothing false": not falsehoods(caption, creature)}


def falsehoods(caption: str, creature: Creature) -> list[str]:
    """The words for size, place, eyes and pattern that are not true of the creature."""
    true = {creature.size, creature.place, EYES[creature.eyes], creature.pattern}
    true |= {"medium"} if creature.size == "normal" else set()
    sayable = {*RADII, "medium", *PLACES, *EYES.values(), "dotted", "striped"}
    return [words for words in sorted(sayable - true) if re.search(rf"\b{words}\b", caption)]


def shares(verdicts: Sequence[dict[str, bool]]) -> dict[str, float]:
    """The part of the verdicts, 0 to 1, in which each thing is right."""
    return {name: sum(verdict[name] for verdict in verdicts) / len(verdicts) for name in GOALS}


def card(facts: dict[str, object], figures: dict[str, float]) -> str:
    """The card's text, from what the making and the judging found out."""
    rows = [f"| {name} | {100 * part:.1f} % | {100 * GOALS[name]:.0f} % |" for name, part in figures.items()]
    return CARD.format(**facts, rows="\n".join(rows))
