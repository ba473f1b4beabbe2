"""The judge on freshly drawn pictures: it finds what is there, through a soft picture too, and only that."""

import io
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from demo.judge import Verdict, agreement, judge
from demo.vae_training import strange_picture
from demo.world import (
    ACCESSORIES,
    BACKGROUNDS,
    BODY_COLORS,
    OUTLINE,
    PALETTE,
    SHAPES,
    SIZE,
    Canvas,
    Creature,
    draw,
    draw_accessory,
    draw_background,
    draw_face,
    random_for,
    sample,
    shape_polygon,
)

NEEDED = 0.995


def creatures(count: int, purpose: str) -> list[tuple[Creature, random.Random]]:
    """Creatures with the random stream that each came from."""
    streams = [random_for(1, index, purpose) for index in range(count)]
    return [(sample(rng), rng) for rng in streams]


def soften(picture: Image.Image, rng: random.Random) -> Image.Image:
    """What a small VAE does: a blur, a tint, some noise; and JPEG on top."""
    blurred = np.asarray(picture.filter(ImageFilter.GaussianBlur(1.0)), np.float32)
    noise = np.random.default_rng(rng.randrange(2**31))
    tinted = blurred + noise.normal(0, 6, (1, 1, 3)) + noise.normal(0, 6, blurred.shape)
    file = io.BytesIO()
    Image.fromarray(tinted.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


def shares(pairs: list[tuple[Creature, Image.Image]]) -> dict[str, float]:
    """For each attribute the part of the pictures where it was judged right."""
    right: Counter[str] = Counter()
    for creature, picture in pairs:
        right.update(name for name, good in agreement(judge(picture), creature).items() if good)
    return {name: right[name] / len(pairs) for name in ("background", "body", "shape", "accessory", "not smeared")}


@pytest.mark.parametrize("seen", [lambda picture, rng: picture, soften], ids=["clean", "soft"])
def test_everything_true_is_found(seen: Callable[[Image.Image, random.Random], Image.Image]) -> None:
    found = shares([(creature, seen(draw(creature), rng)) for creature, rng in creatures(220, "true")])
    assert all(share >= NEEDED for share in found.values()), found


CHANGES: dict[str, Callable[[Creature, random.Random], Creature]] = {
    "background": lambda c, rng: replace(
        c, background=rng.choice([name for name in BACKGROUNDS if name not in (c.background, c.color)])
    ),
    "body": lambda c, rng: replace(
        c, color=rng.choice([name for name in BODY_COLORS if name not in (c.background, c.color)])
    ),
    "shape": lambda c, rng: replace(c, shape=rng.choice([name for name in SHAPES if name != c.shape])),
    "accessory": lambda c, rng: replace(c, accessory=rng.choice([n for n in ACCESSORIES if n != c.accessory])),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_what_is_false_is_found_false_and_the_rest_true(changed: str) -> None:
    found = shares([(creature, draw(CHANGES[changed](creature, rng))) for creature, rng in creatures(40, "false")])
    assert found.pop(changed) == 0.0
    assert set(found.values()) == {1.0}


def blurred(picture: Image.Image, rng: random.Random) -> Image.Image:
    """All edges lost."""
    return picture.filter(ImageFilter.GaussianBlur(6))


def dragged(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Wet paint dragged over a third of the picture's width."""
    pixels = np.asarray(picture, np.float32)
    shifted = [np.roll(pixels, shift, axis=1) for shift in range(0, 40, 2)]
    return Image.fromarray(np.mean(shifted, axis=0).astype(np.uint8))


def doubled(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Two creatures half through each other."""
    return Image.blend(picture, draw(sample(rng)), 0.5)


def boiled(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Every pixel displaced by smooth random waves."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    waves = [rng.uniform(8, 12) * np.sin(rows / rng.uniform(3, 5) + columns / rng.uniform(3, 5)) for _ in range(2)]
    source = [np.clip(axis + wave, 0, SIZE - 1).astype(int) for axis, wave in zip((rows, columns), waves, strict=True)]
    return Image.fromarray(np.asarray(picture)[source[0], source[1]])


def stained(picture: Image.Image, rng: random.Random) -> Image.Image:
    """A stain of two colours that belong neither to the ground nor to the creature."""
    stain = Image.new("RGB", picture.size, (128, 128, 110))
    mask = Image.new("L", picture.size, 0)
    left, top = rng.randrange(10, 90), rng.randrange(10, 90)
    stain.paste((150, 205, 235), (left, top, left + 12, top + 24))
    mask.paste(255, (left, top, left + 24, top + 24))
    return Image.composite(stain, picture, mask.filter(ImageFilter.GaussianBlur(3)))


def noise(picture: Image.Image, rng: random.Random) -> Image.Image:
    """No picture at all."""
    return Image.fromarray(np.random.default_rng(rng.randrange(2**31)).integers(0, 256, (SIZE, SIZE, 3), np.uint8))


def clutter(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Loose shapes in all colours."""
    return strange_picture(3, rng.randrange(10**6))


def flat(picture: Image.Image, rng: random.Random) -> Image.Image:
    """The ground alone."""
    return draw_background(rng.choice(BACKGROUNDS), "plain").finished()


@pytest.mark.parametrize("spoil", [blurred, dragged, doubled, boiled, stained, noise, clutter, flat])
def test_smears_are_found(spoil: Callable[[Image.Image, random.Random], Image.Image]) -> None:
    verdicts = [judge(spoil(draw(creature), rng)) for creature, rng in creatures(20, "smeared")]
    assert sum(verdict.smeared for verdict in verdicts) >= 0.95 * len(verdicts)


def drawn_by_hand(
    color: tuple[int, int, int], accessories: tuple[str, ...] = (), ground: tuple[int, int, int] = PALETTE["blue"]
) -> Image.Image:
    """A round creature on a plain ground, in any colours and with any number of accessories."""
    creature = replace(sample(random_for(0, 0)), shape="round", x=64.0, y=74.0, radius=34.0)
    canvas = Canvas(ground)
    canvas.polygon(shape_polygon("round", 64.0, 74.0, 34.0), color)
    draw_face(canvas, 64.0, 74.0, 34.0, eyes=2)
    for name in accessories:
        draw_accessory(canvas, replace(creature, accessory=name))
    return canvas.finished()


def test_a_colour_without_a_word_is_none_and_the_rest_is_judged_all_the_same() -> None:
    grey_body = judge(drawn_by_hand((128, 128, 128), ("hat",)))
    assert grey_body == Verdict("blue", None, "round", "hat", smeared=False)
    grey_ground = judge(drawn_by_hand(PALETTE["green"], ("bow",), ground=(128, 128, 128)))
    assert grey_ground == Verdict(None, "green", "round", "bow", smeared=False)


def test_two_accessories_are_none_of_them() -> None:
    assert judge(drawn_by_hand(PALETTE["red"], ("hat",))).accessory == "hat"
    assert judge(drawn_by_hand(PALETTE["red"], ("bow",))).accessory == "bow"
    assert judge(drawn_by_hand(PALETTE["red"], ("hat", "bow"))).accessory is None


@pytest.mark.parametrize("width, height", [(30, 12), (16, 34)])
def test_an_oblong_is_no_shape_of_the_world(width: float, height: float) -> None:
    canvas = Canvas(PALETTE["green"])
    corners = [
        (64 - width, 64 - height),
        (64 + width, 64 - height),
        (64 + width, 64 + height),
        (64 - width, 64 + height),
    ]
    canvas.polygon(corners, PALETTE["red"])
    assert judge(canvas.finished()).shape is None


def test_a_body_without_outline_is_smeared() -> None:
    canvas = Canvas(PALETTE["green"])
    canvas.fill(shape_polygon("round", 64.0, 70.0, 32.0), PALETTE["red"])
    bare = judge(canvas.finished())
    assert (bare.body, bare.shape, bare.smeared) == ("red", "round", True)
    edge = shape_polygon("round", 64.0, 70.0, 32.0)
    canvas.line([*edge, edge[0]], OUTLINE)
    assert not judge(canvas.finished()).smeared


def test_other_sizes_are_judged_too() -> None:
    creature = sample(random_for(4, 4))
    large = draw(creature).resize((4 * SIZE, 4 * SIZE), Image.Resampling.NEAREST)
    assert judge(large) == judge(draw(creature))
