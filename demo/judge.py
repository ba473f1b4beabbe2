"""Plain image analysis: which creature a picture shows. Knows the world's looks, and nothing of any model."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from demo.sight import Sight, look, most_common
from demo.templates import HALF, Stencils, accessories, bodies, half
from demo.world import ACCESSORIES, BODY_COLORS, SHAPES, Creature

FIT_NEEDED = 0.80  # overlap of body and best shape, below which it is no shape of the world
FORM_NEEDED = 0.75  # overlap below which the body is not even a misdrawn shape but a smear
ACCESSORY_NEEDED = 0.62  # part of an accessory's ink, and of its white, that must be where it belongs
APART = 16  # half pixels between two accessories; nearer, the weaker is the stronger one misread
COLOR_NEEDED = 0.70  # part of the coloured body that one colour must hold, of what has a colour word at all
NAMED_NEEDED = 0.20  # part of the coloured body that must have a colour word
ODD_ALLOWED = 0.006  # part of the picture that may be of no colour that belongs there
OUTLINE_NEEDED = 0.47  # part of the body's outline that must be dark


@dataclass(frozen=True)
class Verdict:
    """What the picture shows; None where nothing of the world is recognised."""

    background: str | None
    body: str | None
    shape: str | None
    accessory: str | None
    smeared: bool


@dataclass(frozen=True)
class Fit:
    """The best shape: overlap of body and form (0 to 1), and the dark part of its outline (0 to 1)."""

    shape: str
    overlap: float
    outline: float


def judge(picture: Image.Image) -> Verdict:
    """Find every attribute by itself."""
    sight = look(picture)
    fit = best_fit(sight)
    return Verdict(
        background=sight.background,
        body=body_color(sight),
        shape=fit.shape if fit.overlap >= FIT_NEEDED else None,
        accessory=accessory(sight),
        smeared=smeared(sight, fit),
    )


def agreement(verdict: Verdict, creature: Creature) -> dict[str, bool]:
    """Which attributes of the creature the picture shows, and whether it is free of smears."""
    return {
        "background": verdict.background == creature.background,
        "body": verdict.body == creature.color,
        "shape": verdict.shape == creature.shape,
        "accessory": verdict.accessory == creature.accessory,
        "not smeared": not verdict.smeared,
    }


def body_color(sight: Sight) -> str | None:
    """The colour that most of the figure's coloured part has."""
    core = sight.labels[sight.skin & sight.flat]
    named = core[core >= 0]
    name, share = most_common(named, len(named))
    known = len(named) >= NAMED_NEEDED * len(core)
    return name if name in BODY_COLORS and known and share >= COLOR_NEEDED else None


def best_fit(sight: Sight) -> Fit:
    """The shape that, at some place and size, covers the coloured part of the figure and no ground.

    Ink and white count neither way, so that faces, hats and bows do not disturb.
    """
    skin, ground, ink = half(sight.skin), half(~sight.figure), half(sight.ink)
    if skin.sum() < 1.0:
        return Fit(SHAPES[0], 0.0, 0.0)
    fits = []
    for shape in SHAPES:
        forms, outlines = bodies(shape)
        overlap = forms.covered(skin) / (skin.sum() + forms.covered(ground))
        outline = outlines.covered(ink) / outlines.areas[:, None, None]
        best = np.unravel_index(np.argmax(overlap + 0.5 * outline), overlap.shape)
        fits.append(Fit(shape, float(overlap[best]), float(outline[best])))
    return max(fits, key=lambda fit: fit.overlap + 0.5 * fit.outline)


def accessory(sight: Sight) -> str | None:
    """The accessory whose ink and white are both found; None where several are, at different places."""
    scores = {name: accessory_scores(sight, name) for name in ACCESSORIES if name != "none"}
    first = max(scores, key=lambda name: scores[name].max())
    if scores[first].max() < ACCESSORY_NEEDED:
        return "none"
    row, column = np.unravel_index(scores[first].argmax(), scores[first].shape)
    for other in scores.keys() - {first}:
        away = np.roll(scores[other], (HALF // 2 - row, HALF // 2 - column), axis=(0, 1))
        away[HALF // 2 - APART : HALF // 2 + APART, HALF // 2 - APART : HALF // 2 + APART] = 0.0
        if away.max() >= ACCESSORY_NEEDED:
            return None
    return first


def accessory_scores(sight: Sight, name: str) -> np.ndarray:
    """The worse of how much of its ink and how much of its white is in place, at the best size: (HALF, HALF) places."""
    ink, white = accessories(name)
    return np.minimum(_part(ink, half(sight.ink)), _part(white, half(sight.white))).max(axis=0)


def _part(stencils: Stencils, seen: np.ndarray) -> np.ndarray:
    """The part of each form that is seen, 0 to 1, at every place."""
    return stencils.covered(seen) / stencils.areas[:, None, None]


def smeared(sight: Sight, fit: Fit) -> bool:
    """Whether there are colours that nothing in the picture explains, or the body lacks its form or outline."""
    odd = sight.unexplained.mean()
    return bool(odd > ODD_ALLOWED or fit.overlap < FORM_NEEDED or fit.outline < OUTLINE_NEEDED)
