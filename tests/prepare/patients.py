"""What the data-set doctor examines in the tests: real photographs, and pictures of which only the facts exist."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from PIL import Image

from library.data.buckets import place, subset_buckets
from library.data.folders import Subset
from library.prepare.duplicates import Fingerprint
from library.prepare.examined import Caption, Examined, Wish
from library.prepare.looks import Looks

PHOTOS = ("astronaut", "chelsea", "coffee")
SUBSET = Subset(Path("pictures"), enable_bucket=True)


@cache
def photo(name: str) -> Image.Image:
    """One of scikit-image's photographs, RGB, 512x512 (astronaut), 451x300 (chelsea) or 600x400 (coffee)."""
    with Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png") as image:
        return image.convert("RGB")


def save(image: Image.Image, path: Path, caption: str | None = None, **options: Any) -> Path:
    """Writes a picture, and its caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def draw(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture of coloured rectangles with sharp edges; another seed draws another picture."""
    random = np.random.default_rng(seed)
    pixels = np.empty((size[1], size[0], 3), dtype=np.uint8)
    pixels[:] = random.integers(40, 216, 3)
    for _ in range(12):
        left, top = (int(random.integers(0, side)) for side in size)
        width, height = (int(random.integers(side // 8 + 1, side // 2 + 2)) for side in size)
        pixels[top : top + height, left : left + width] = random.integers(0, 256, 3)
    return Image.fromarray(pixels)


def good_folder(folder: Path, count: int, first: int = 0) -> Path:
    """Different pictures of 64x64 with different captions, each with the word sks."""
    for number in range(first, first + count):
        save(draw(number), folder / f"good_{number:03d}.png", f"sks, thing, number {number}")
    return folder


def looks(**changes: Any) -> Looks:
    """The looks of a fine picture of 512x512, with some changed."""
    values: dict[str, Any] = {
        "sha256": "0" * 64,
        "width": 512,
        "height": 512,
        "softness": 0.5,
        "brightness": 0.5,
        "darkest": 0.1,
        "brightest": 0.9,
        "colour": 0.5,
        "detail": 0.9,
        "fingerprint": Fingerprint((0,) * 6, bytes(24 * 24 * 3)),
    }
    return Looks(**values | changes)


def seen(
    name: str, caption: str | Caption = "sks, thing", seen_as: Looks | None = None, subset: Subset = SUBSET
) -> Examined:
    """A picture that was examined, of which there is no file; `caption` is its text or the whole record."""
    own = seen_as or looks(sha256=name)
    words = caption if isinstance(caption, Caption) else Caption((caption,), (caption,), 5, has_file=True)
    placing = place((own.width, own.height), subset_buckets(subset), subset)
    return Examined(subset.image_dir / name, subset, words, own, placing)


def unseen(name: str, reason: str = "its content is not a picture", subset: Subset = SUBSET) -> Examined:
    """A picture that could not be read."""
    return Examined(subset.image_dir / name, subset, Caption(("sks",), ("sks",), 1, has_file=True), reason=reason)


def wish(**changes: Any) -> Wish:
    """A training at 512x512, with some of it changed."""
    return Wish(**{"subset": SUBSET} | changes)
