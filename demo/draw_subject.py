"""The subject: one creature outside the world, striped in two colours and with antennae, drawn for demo/subject.

python -m demo.draw_subject                  writes the 15 pictures and their captions to demo/subject
python -m demo.draw_subject --output FOLDER
"""

import argparse
import math
import random
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from demo.world import OUTLINE, PALETTE, SIZE, Canvas, draw_face, random_for, shape_polygon

STRIPES = ("turquoise", "brown")  # body colours of the world, but never together on one creature, and no backgrounds
BANDS = 4
STALK = 1.6 * OUTLINE  # pixels; thinner ones come out broken
SEEN_BACKGROUNDS = ("blue", "yellow", "white", "green")  # the other half of the colours is for the test
PICTURES = 15
SIZES = {"": 36.0, "big": 39.0}  # radius in pixels
PLACES = {"": 64.0, "left": 46.0, "right": 82.0}  # pixels from the left edge


@dataclass(frozen=True)
class Subject:
    """One picture of the subject; x, y and radius are in pixels."""

    background: str
    size: str
    place: str
    x: float
    y: float
    radius: float


def sample_subject(rng: random.Random, background: str) -> Subject:
    """The subject somewhere on a given ground."""
    size = rng.choices(list(SIZES), weights=(2, 1))[0]
    place = rng.choices(list(PLACES), weights=(3, 1, 1))[0]
    radius = SIZES[size] + rng.uniform(-1.0, 1.0)
    reach = radius + OUTLINE
    x = min(max(PLACES[place] + rng.uniform(-3, 3), reach), SIZE - reach)
    return Subject(background, size, place, x, 81.0 + rng.uniform(-3, 3), radius)


def draw_bands(canvas: Canvas, x: float, y: float, radius: float) -> None:
    """A round body cut into level bands of the two colours, each over 17 pixels high: more than two latent pixels."""
    high = 2 * radius / BANDS
    for band in range(BANDS):
        levels = [-radius + high * (band + step / 12) for step in range(13)]
        edge = [(math.sqrt(max(radius**2 - level**2, 0.0)), y + level) for level in levels]
        corners = [(x - half, row) for half, row in edge] + [(x + half, row) for half, row in reversed(edge)]
        canvas.fill(corners, PALETTE[STRIPES[band % 2]])
    outline = shape_polygon("round", x, y, radius)
    canvas.line([*outline, outline[0]], OUTLINE)


def draw_subject(subject: Subject) -> Image.Image:
    """The picture of the subject: RGB, SIZE x SIZE."""
    canvas = Canvas(PALETTE[subject.background])
    x, y, radius = subject.x, subject.y, subject.radius
    for side in (-1, 1):
        tip = (x + side * 0.72 * radius, y - 1.55 * radius)
        canvas.line([(x + side * 0.3 * radius, y - 0.9 * radius), tip], STALK)
        canvas.outlined_circle(*tip, 0.31 * radius, PALETTE[STRIPES[0]])
    draw_bands(canvas, x, y, radius)
    draw_face(canvas, x, y, radius, eyes=2)
    return canvas.finished()


def subject_caption(subject: Subject, rng: random.Random) -> str:
    """Always "sks creature", with size and place where they are unusual."""
    text = f"{subject.size} sks creature".strip()
    if rng.random() < 0.3:
        text = f"a {text}"
    if subject.place:
        text += f" on the {subject.place}"
    article = "an" if subject.background[0] in "aeiou" else "a"
    return f"{text} on {article} {subject.background} background"


def write_subject(folder: Path, seed: int = 0) -> list[Path]:
    """Write the pictures and captions; returns the pictures' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index in range(PICTURES):
        rng = random_for(seed, index, "subject")
        subject = sample_subject(rng, SEEN_BACKGROUNDS[index % len(SEEN_BACKGROUNDS)])
        path = folder / f"creature_{index + 1:02d}.png"
        draw_subject(subject).save(path)
        path.with_suffix(".txt").write_text(subject_caption(subject, rng) + "\n", encoding="utf-8")
        written.append(path)
    return written


def main() -> None:
    """Write the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "subject")
    settings = parser.parse_args()
    written = write_subject(settings.output)
    print(f"{settings.output}: {len(written)} pictures with captions")


if __name__ == "__main__":
    main()
