"""A world of cartoon creatures: each is a few independent attributes, drawn with Pillow from (seed, index)."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

SIZE = 128  # pixels, width and height of every picture
SUPERSAMPLE = 4  # pictures are drawn this much larger, then shrunk, for smooth edges
OUTLINE = 4.0  # pixels

Color = tuple[int, int, int]
Point = tuple[float, float]

PALETTE: dict[str, Color] = {
    "red": (225, 30, 35),
    "orange": (255, 140, 0),
    "yellow": (255, 228, 30),
    "green": (40, 165, 60),
    "blue": (35, 85, 225),
    "purple": (130, 45, 175),
    "pink": (255, 145, 200),
    "white": (250, 250, 250),
    "turquoise": (20, 210, 205),
    "brown": (115, 65, 25),
    "ink": (25, 20, 30),
}
BACKGROUNDS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
BODY_COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "turquoise", "brown")
SHAPES = ("round", "square", "triangular", "star-shaped")
ACCESSORIES = ("none", "hat", "bow")
RADII = {"small": 24.0, "normal": 31.0, "big": 38.0}  # pixels
PLACES = {"left": 40.0, "center": 64.0, "right": 88.0}  # pixels from the left edge
PATTERNS = ("plain", "dotted", "striped")


@dataclass(frozen=True)
class Creature:
    """One creature and the ground it stands on; x, y and radius are in pixels of the finished picture."""

    shape: str
    color: str
    eyes: int
    accessory: str
    size: str
    place: str
    background: str
    pattern: str
    x: float
    y: float
    radius: float


def random_for(seed: int, index: int, purpose: str = "world") -> random.Random:
    """A random stream that depends on nothing but its arguments."""
    return random.Random(f"{purpose}-{seed}-{index}")


def sample(rng: random.Random) -> Creature:
    """Draw the attributes independently; only body and background never share a colour."""
    background = rng.choice(BACKGROUNDS)
    color = rng.choice([name for name in BODY_COLORS if name != background])
    size = rng.choices(list(RADII), weights=(1, 2, 1))[0]
    place = rng.choices(list(PLACES), weights=(1, 2, 1))[0]
    radius = RADII[size] + rng.uniform(-1.5, 1.5)
    reach = 1.19 * radius + OUTLINE  # the widest shape must stay inside the picture
    x = min(max(PLACES[place] + rng.uniform(-3, 3), reach), SIZE - reach)
    return Creature(
        shape=rng.choice(SHAPES),
        color=color,
        eyes=rng.choice((1, 2)),
        accessory=rng.choice(ACCESSORIES),
        size=size,
        place=place,
        background=background,
        pattern=rng.choices(PATTERNS, weights=(6, 1, 1))[0],
        x=x,
        y=74.0 + rng.uniform(-4, 4),
        radius=radius,
    )


def shape_polygon(shape: str, x: float, y: float, radius: float) -> list[Point]:
    """Corners of a body shape in pixels; curves come as many short edges."""
    if shape == "round":
        angles = [2 * math.pi * i / 72 for i in range(72)]
        return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]
    if shape == "square":
        half = 0.9 * radius
        return [(x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)]
    if shape == "triangular":
        return [(x, y - 1.15 * radius), (x + 1.17 * radius, y + 0.9 * radius), (x - 1.17 * radius, y + 0.9 * radius)]
    if shape == "star-shaped":
        lengths = [(1.25 if i % 2 == 0 else 0.68) * radius for i in range(10)]
        return [
            (x + length * math.sin(math.pi * i / 5), y - length * math.cos(math.pi * i / 5))
            for i, length in enumerate(lengths)
        ]
    raise ValueError(f"unknown shape {shape!r}; shapes are {', '.join(SHAPES)}")


class Canvas:
    """A picture drawn in finished-picture pixels on a larger sheet."""

    def __init__(self, background: Color) -> None:
        """Start with one plain colour."""
        self.image = Image.new("RGB", (SIZE * SUPERSAMPLE, SIZE * SUPERSAMPLE), background)
        self.pen = ImageDraw.Draw(self.image)

    def fill(self, points: list[Point], fill: Color) -> None:
        """A filled polygon without an outline."""
        self.pen.polygon([(px * SUPERSAMPLE, py * SUPERSAMPLE) for px, py in points], fill=fill)

    def polygon(self, points: list[Point], fill: Color, outline: Color = PALETTE["ink"]) -> None:
        """A filled polygon with a thick outline whose corners are round."""
        self.fill(points, fill)
        self.line([*points, points[0]], OUTLINE, outline)

    def line(self, points: list[Point], width: float, fill: Color = PALETTE["ink"]) -> None:
        """A thick line with round joints and ends."""
        scaled = [(px * SUPERSAMPLE, py * SUPERSAMPLE) for px, py in points]
        self.pen.line(scaled, fill=fill, width=round(width * SUPERSAMPLE))
        for px, py in points:
            self.circle(px, py, width / 2, fill)

    def circle(self, x: float, y: float, radius: float, fill: Color) -> None:
        """A filled circle without an outline."""
        box = [(x - radius) * SUPERSAMPLE, (y - radius) * SUPERSAMPLE]
        box += [(x + radius) * SUPERSAMPLE, (y + radius) * SUPERSAMPLE]
        self.pen.ellipse(box, fill=fill)

    def outlined_circle(self, x: float, y: float, radius: float, fill: Color) -> None:
        """A filled circle inside an ink ring of the usual width."""
        self.circle(x, y, radius + OUTLINE / 2, PALETTE["ink"])
        self.circle(x, y, radius - OUTLINE / 2, fill)

    def finished(self) -> Image.Image:
        """The picture at its final size."""
        return self.image.resize((SIZE, SIZE), Image.Resampling.BOX)


def second_tone(color: Color) -> Color:
    """A slightly darker tone of the same colour, for patterns that leave the colour word right."""
    return tuple(round(0.87 * channel) for channel in color)  # type: ignore[return-value]


def draw_background(background: str, pattern: str) -> Canvas:
    """The ground: plain, or with dots or slanting stripes in a second tone of the same colour."""
    canvas = Canvas(PALETTE[background])
    tone = second_tone(PALETTE[background])
    if pattern == "dotted":
        for row in range(6):
            for column in range(7):
                canvas.circle(24 * column - 6 + 12 * (row % 2), 24 * row + 4, 6, tone)
    elif pattern == "striped":
        for offset in range(-SIZE, SIZE, 32):
            canvas.line([(offset - 8, SIZE + 8), (offset + SIZE + 8, -8)], 11, tone)
    return canvas


def draw_face(canvas: Canvas, x: float, y: float, radius: float, eyes: int) -> None:
    """One big eye or two eyes, and a smile."""
    offsets, eye = ((0.0,), 0.31 * radius) if eyes == 1 else ((-0.3 * radius, 0.3 * radius), 0.23 * radius)
    for offset in offsets:
        canvas.outlined_circle(x + offset, y - 0.16 * radius, eye + 1, PALETTE["white"])
        canvas.circle(x + offset, y - 0.16 * radius, 0.5 * eye, PALETTE["ink"])
    angles = [math.pi * (0.2 + 0.6 * i / 8) for i in range(9)]
    smile = [(x + 0.3 * radius * math.cos(a), y + (0.12 + 0.26 * math.sin(a)) * radius) for a in angles]
    canvas.line(smile, 3)


def top_of(shape: str, y: float, radius: float) -> float:
    """Where a hat rests on a body, in pixels from the upper edge."""
    return y - {"round": 0.86, "square": 0.85, "triangular": 0.66, "star-shaped": 0.88}[shape] * radius


def draw_accessory(canvas: Canvas, creature: Creature) -> None:
    """A black top hat with a white band, or a white bow; both keep a readable size on small creatures."""
    unit = max(creature.radius, 29.0)
    x, ink, white = creature.x, PALETTE["ink"], PALETTE["white"]
    if creature.accessory == "hat":
        base = top_of(creature.shape, creature.y, creature.radius)
        high, half = 0.68 * unit, 0.42 * unit
        canvas.polygon([(x - half, base), (x + half, base), (x + half, base - high), (x - half, base - high)], ink)
        canvas.line([(x - half, base - 8), (x + half, base - 8)], 6, white)
        canvas.line([(x - 0.8 * unit, base), (x + 0.8 * unit, base)], 6, ink)
    elif creature.accessory == "bow":
        y, half, tall = creature.y + 0.6 * creature.radius, 0.56 * unit, 0.3 * unit
        canvas.polygon([(x, y), (x - half, y - tall), (x - half, y + tall)], white)
        canvas.polygon([(x, y), (x + half, y - tall), (x + half, y + tall)], white)
        canvas.circle(x, y, 0.14 * unit, ink)


def draw(creature: Creature) -> Image.Image:
    """The picture of a creature: RGB, SIZE x SIZE."""
    canvas = draw_background(creature.background, creature.pattern)
    body = shape_polygon(creature.shape, creature.x, creature.y, creature.radius)
    canvas.polygon(body, PALETTE[creature.color])
    draw_face(canvas, creature.x, creature.y, creature.radius, creature.eyes)
    draw_accessory(canvas, creature)
    return canvas.finished()
