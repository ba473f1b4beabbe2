"""The arithmetic of masks: cut, grown, shrunk, blurred, turned round, and put together with those that are there.

A mask is an array (height, width) of bytes: 255 where a picture's pixel counts fully, 0 where not at all.
"""

from dataclasses import dataclass
from math import ceil, isqrt

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Mask = NDArray[np.uint8]

WHITE = 255
MODES = ("skip", "overwrite", "add", "subtract", "intersect")


@dataclass(frozen=True)
class Recipe:
    """What is done to what was found, in this order; the defaults leave it as it is.

    `threshold` is a share of 1; `grow`, `shrink` and `blur` are pixels of the picture. `min_value` is a share of 1
    below which no pixel falls, so that a background still counts a little.
    """

    threshold: float | None = None
    grow: int = 0
    shrink: int = 0
    invert: bool = False
    blur: float = 0.0
    mode: str = "skip"
    min_value: float = 0.0


def from_shares(shares: NDArray[np.floating]) -> Mask:
    """The mask of numbers from 0 to 1; ValueError where some are no numbers."""
    if not np.isfinite(shares).all():
        raise ValueError("the model gives numbers that are not finite for it")
    return (shares * WHITE).round().clip(0, WHITE).astype(np.uint8)


def resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask scaled to (width, height)."""
    image = Image.fromarray(mask)
    return mask if image.size == size else np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def shaped(found: Mask, recipe: Recipe) -> Mask:
    """What was found, as the recipe wants it, before it meets the mask that is there."""
    mask = found if recipe.threshold is None else threshold(found, recipe.threshold)
    mask = shrink(grow(mask, recipe.grow), recipe.shrink)
    return blur(invert(mask) if recipe.invert else mask, recipe.blur)


def threshold(mask: Mask, level: float) -> Mask:
    """White where the mask is `level` (a share of 1) or more, black elsewhere."""
    return (mask >= ceil(level * WHITE)) * np.uint8(WHITE)


def grow(mask: Mask, pixels: int) -> Mask:
    """Each pixel as bright as the brightest one that is no further away than `pixels`; so edges become round."""
    height = mask.shape[0]
    grown, row, reach = mask.copy(), mask.copy(), 0  # row: the brightest within `reach` to the left and right
    for rows in range(pixels, -1, -1):
        while reach < isqrt(pixels * pixels - rows * rows):
            reach += 1
            np.maximum(row[:, reach:], mask[:, :-reach], out=row[:, reach:])
            np.maximum(row[:, :-reach], mask[:, reach:], out=row[:, :-reach])
        rest = max(height - rows, 0)
        np.maximum(grown[rows:], row[:rest], out=grown[rows:])
        np.maximum(grown[:rest], row[rows:], out=grown[:rest])
    return grown


def shrink(mask: Mask, pixels: int) -> Mask:
    """Each pixel as dark as the darkest one that is no further away; nothing shrinks from the picture's edges."""
    return invert(grow(invert(mask), pixels))


def blur(mask: Mask, pixels: float) -> Mask:
    """Edges made soft by a Gaussian with a standard deviation of `pixels`."""
    return np.asarray(Image.fromarray(mask).filter(ImageFilter.GaussianBlur(pixels))) if pixels else mask


def invert(mask: Mask) -> Mask:
    """White for black."""
    return WHITE - mask


def merged(old: Mask | None, new: Mask, mode: str) -> Mask:
    """A new mask put together with the one that is there; done twice it is the same as done once.

    Where there is none, all of the picture counts so far: there `subtract` leaves the rest, and the other modes the
    new mask.
    """
    if mode == "subtract":
        return invert(new) if old is None else np.minimum(old, invert(new))
    if old is None or mode in ("skip", "overwrite"):
        return new
    return {"add": np.maximum, "intersect": np.minimum}[mode](old, new)


def with_floor(mask: Mask, min_value: float) -> Mask:
    """A mask in which no pixel counts less than `min_value`, a share of 1."""
    return np.maximum(mask, np.uint8(round(min_value * WHITE)))
