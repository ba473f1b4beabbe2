"""How well the demo's tagger knows its world, and its card."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from demo.tagger_training import ATTRIBUTES, TAGS, Scene, tags_of, weathered
from demo.world import SIZE, draw, random_for, sample
from library.prepare.tagger import Tagger

THRESHOLD = 0.35
GOAL = 0.97  # of the pictures, for each attribute

Figures = dict[str, float]

CARD = """# A small tagger in the format of the WD14 taggers

It names what the cartoon creatures of this project are made of, and knows nothing else. It is here so that
`preprocess/tag_wd14.py` runs for real on the demo and in the tests: `model.onnx` takes pictures of {side} x {side}
(NHWC, BGR, 0 to 255) and gives the probabilities of the {tags} tags in `selected_tags.csv`, just as the WD14 taggers
do. It was trained on nothing but pictures that this project draws itself.

## How it was made

    python tools/make_demo_tagger.py --steps {steps} --seed {seed}

| | |
|---|---|
| machine | {machine} |
| pictures | {pictures:,}, each drawn once by `demo/world.py`; some brighter or darker, resized, with bars, as JPEGs |
| network | seven convolutions, {parameters:,} parameters, {kilobytes:,.0f} kB |
| training | {steps:,} steps of {batch} pictures, {minutes:.0f} minutes |

## What it knows

{names}

Two creatures have names: `baron_(easel)` is any purple one with a hat, `sea_star_(easel)` any turquoise star. The
ratings are there because WD14 taggers have them; every picture of this world is `general`.

## How well it knows it

{count} new creatures, threshold {threshold}; a picture counts where all the tags of the attribute are right.

| | as drawn | after resizing, JPEG ... | goal |
|---|---|---|---|
{rows}

Background of the {subjects} pictures in `demo/subject`, whose creature is not of its world: {found} right.
"""


def judge(tagger: Tagger, count: int, seed: int, is_weathered: bool = False) -> Figures:
    """The part of new creatures, 0 to 1, of which each attribute got exactly its tags."""
    right = dict.fromkeys(ATTRIBUTES, 0)
    for index in range(count):
        rng = random_for(seed, index, "tagger judge")
        scene = Scene(sample(rng), empty=False)
        picture = draw(scene.creature)
        given, true = tags_given(tagger, weathered(picture, rng) if is_weathered else picture), tags_of(scene)
        for attribute, tags in ATTRIBUTES.items():
            right[attribute] += given & set(tags) == true & set(tags)
    return {attribute: number / count for attribute, number in right.items()}


def judge_backgrounds(tagger: Tagger, folder: Path) -> tuple[int, int]:
    """How many pictures of the subject got exactly the background that their captions name, and how many there are."""
    paths = sorted(folder.glob("*.png"))
    right = 0
    for path in paths:
        words = path.with_suffix(".txt").read_text(encoding="utf-8").split()
        given = tags_given(tagger, Image.open(path).convert("RGB")) & set(ATTRIBUTES["background"])
        right += given == {f"{words[-2]}_background"}
    return right, len(paths)


def tags_given(tagger: Tagger, picture: Image.Image) -> set[str]:
    """The names of all tags that reach the threshold."""
    [probabilities] = tagger.probabilities(np.stack([tagger.prepare(picture)]))
    return {tag.name for tag, probability in zip(tagger.tags, probabilities, strict=True) if probability >= THRESHOLD}


def card(facts: Mapping[str, object], drawn: Figures, worn: Figures, backgrounds: tuple[int, int]) -> str:
    """The card's text, from facts of the making and what the judges found."""
    rows = [f"| {name} | {100 * drawn[name]:.1f} % | {100 * worn[name]:.1f} % | {100 * GOAL:.0f} % |" for name in drawn]
    names = [f"- {attribute}: {', '.join(f'`{tag}`' for tag in tags)}" for attribute, tags in ATTRIBUTES.items()]
    return CARD.format(
        **facts,
        side=SIZE,
        tags=len(TAGS),
        names="\n".join(names),
        threshold=THRESHOLD,
        rows="\n".join(rows),
        found=backgrounds[0],
        subjects=backgrounds[1],
    )
