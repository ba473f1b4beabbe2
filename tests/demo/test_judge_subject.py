"""The subject's marks on freshly drawn pictures: each is found alone, and nothing else is taken for it."""

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from demo import draw_subject as drawing
from demo.draw_subject import draw_bands, draw_subject, sample_subject
from demo.judge_subject import Marks, judge_marks
from demo.sight import look
from demo.world import BACKGROUNDS, OUTLINE, PALETTE, Canvas, draw, draw_face, random_for, sample, shape_polygon

X, Y, RADIUS = 64.0, 80.0, 33.0
SUBJECT = Path(drawing.__file__).parent / "subject"


def soften(picture: Image.Image, rng: random.Random) -> Image.Image:
    """What a small VAE does: a blur, some noise; and JPEG on top."""
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.0)), np.float32)
    noisy = blurred + np.random.default_rng(rng.randrange(2**31)).normal(0, 6, blurred.shape)
    file = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize("seen", [lambda picture, rng: picture, soften], ids=["clean", "soft"])
def test_all_marks_and_the_ground_are_found(seen: Callable[[Image.Image, random.Random], Image.Image]) -> None:
    for index in range(64):
        rng = random_for(2, index, "subject")
        background = BACKGROUNDS[index % len(BACKGROUNDS)]
        picture = seen(draw_subject(sample_subject(rng, background)), rng)
        assert judge_marks(picture) == Marks(True, True, True), (index, background)
        assert look(picture).background == background


def test_the_pictures_of_the_folder_show_all_marks() -> None:
    pictures = sorted(SUBJECT.glob("*.png"))
    assert len(pictures) == drawing.PICTURES
    assert all(judge_marks(Image.open(path)).all for path in pictures)


def test_creatures_of_the_world_have_no_mark() -> None:
    for index in range(150):
        marks = judge_marks(draw(sample(random_for(2, index, "world"))))
        assert marks == Marks(False, False, False), index


@pytest.mark.parametrize(
    "stripes, turquoise, brown",
    [
        (("turquoise", "purple"), True, False),
        (("red", "brown"), False, True),
        (("yellow", "purple"), False, False),
        (("turquoise", "turquoise"), False, False),
        (("brown", "brown"), False, False),
    ],
)
def test_each_colour_is_found_by_itself(
    stripes: tuple[str, str], turquoise: bool, brown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "STRIPES", stripes)
    marks = judge_marks(draw_subject(sample_subject(random_for(2, 0), "green")))
    assert marks == Marks(turquoise_stripes=turquoise, brown_stripes=brown, antennae=True)


def test_two_halves_are_no_stripes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "BANDS", 2)
    marks = judge_marks(draw_subject(sample_subject(random_for(2, 0), "green")))
    assert marks == Marks(turquoise_stripes=False, brown_stripes=False, antennae=True)


def test_upright_stripes_are_not_the_subjects() -> None:
    picture = draw_subject(sample_subject(random_for(2, 0), "green")).rotate(90, fillcolor=PALETTE["green"])
    assert judge_marks(picture) == Marks(False, False, False)


@pytest.mark.parametrize(
    "knobs, found",
    [
        (((-0.72, -1.55), (0.72, -1.55)), True),
        (((-0.72, -1.55),), False),
        (((0.72, -1.55),), False),
        ((), False),
        (((0.5, -1.55), (0.9, -1.55)), False),
        (((-0.72, 1.3), (0.72, 1.3)), False),
    ],
)
def test_antennae_are_two_over_left_and_right(knobs: tuple[tuple[float, float], ...], found: bool) -> None:
    picture = striped_with(knobs, stalks=True)
    assert judge_marks(picture) == Marks(True, True, antennae=found)


def test_loose_balls_are_no_antennae() -> None:
    assert not judge_marks(striped_with(((-0.72, -1.55), (0.72, -1.55)), stalks=False)).antennae


def striped_with(knobs: tuple[tuple[float, float], ...], stalks: bool) -> Image.Image:
    """The striped body with round knobs at these places, in radii from its middle."""
    canvas, y = Canvas(PALETTE["blue"]), Y if all(high < 0 for _, high in knobs) else 50.0
    for aside, high in knobs:
        place = (X + aside * RADIUS, y + high * RADIUS)
        if stalks:
            canvas.line([(X, y), place], OUTLINE)
        canvas.outlined_circle(*place, 0.28 * RADIUS, PALETTE["turquoise"])
    draw_bands(canvas, X, y, RADIUS)
    draw_face(canvas, X, y, RADIUS, eyes=2)
    return canvas.finished()


def test_antennae_alone_do_not_need_stripes() -> None:
    canvas = Canvas(PALETTE["white"])
    for side in (-1, 1):
        canvas.line([(X + side * 10, Y - 20), (X + side * 24, Y - 51)], OUTLINE)
        canvas.outlined_circle(X + side * 24, Y - 51, 10, PALETTE["red"])
    canvas.polygon(shape_polygon("round", X, Y, RADIUS), PALETTE["red"])
    draw_face(canvas, X, Y, RADIUS, eyes=1)
    assert judge_marks(canvas.finished()) == Marks(False, False, antennae=True)
