"""Which part of a picture a crop keeps: the largest of the wanted shape, in the middle or where most is to be seen."""

import math

import numpy as np
from PIL import Image

from library.data.buckets import Size

Box = tuple[float, float, float, float]  # left, top, right and bottom in the picture's pixels

LOOKED_AT = 256  # pixels of the longer side when detail is looked for; noise and fine texture are gone by then
PULL = 0.05  # share of the picture's detail by which a window at the edge must beat the one in the middle


def scaled(picture: Size, side: int) -> Size:
    """The (width, height) of a picture whose shorter side is brought to `side` pixels."""
    width, height = picture
    if width <= height:
        return side, max(side, round(height * side / width))
    return max(side, round(width * side / height)), side


def enlargement(picture: Size, size: Size) -> float:
    """How many times a picture is enlarged (more than 1) or shrunk (less than 1) to cover `size`."""
    return max(size[0] / picture[0], size[1] / picture[1])


def largest_part(picture: Size, size: Size) -> tuple[float, float]:
    """Width and height of the largest part of a picture that has the shape of `size`; one of them is the whole."""
    width, height = picture
    if width * size[1] <= height * size[0]:
        return width, width * size[1] / size[0]
    return height * size[0] / size[1], height


def around(picture: Size, size: Size, middle: tuple[float, float]) -> Box:
    """The largest part of the shape of `size` that lies inside the picture and nearest to around a point.

    It begins on a whole pixel, so that a part that is neither enlarged nor shrunk stays as it is.
    """
    part = largest_part(picture, size)
    left, top = (
        math.floor(min(max(point - length / 2, 0), whole - length))
        for point, length, whole in zip(middle, part, picture, strict=True)
    )
    return left, top, left + part[0], top + part[1]


def in_the_middle(picture: Size, size: Size) -> Box:
    """The largest part of the shape of `size` in the middle of a picture."""
    return around(picture, size, (picture[0] / 2, picture[1] / 2))


def with_most_detail(image: Image.Image, size: Size) -> Box:
    """The largest part of the shape of `size` that holds most of a picture's brightness gradient.

    Between parts with nearly as much detail the one nearer to the middle is taken.
    """
    width, height = image.size
    factor = min(1.0, LOOKED_AT / max(image.size))
    looked_at = max(2, round(width * factor)), max(2, round(height * factor))
    small = image.resize(looked_at, Image.Resampling.BILINEAR, reducing_gap=2.0).convert("L")
    down, across = np.gradient(np.asarray(small, dtype=np.float64))
    detail = np.hypot(across, down)
    part = largest_part(image.size, size)
    x = _richest(detail.sum(axis=0), part[0] / width) * width
    y = _richest(detail.sum(axis=1), part[1] / height) * height
    return around(image.size, size, (x, y))


def _richest(detail: np.ndarray, share: float) -> float:
    """The middle of the richest window, as a part (0 to 1) of a line of which the window is a `share`.

    A cut takes all of a picture's width or all of its height, so each direction is a line by itself: the sum over
    a window is a difference of two running sums.
    """
    count, total = len(detail), detail.sum()
    if share >= 1 or not total:
        return 0.5
    sums = np.concatenate([[0.0], np.cumsum(detail)]) / total
    places = np.arange(count + 1) / count
    starts = np.linspace(0, 1 - share, 2 * count + 1)  # an odd number, so that the middle is one of them
    inside = np.interp(starts + share, places, sums) - np.interp(starts, places, sums)
    aside = np.linspace(-1, 1, 2 * count + 1) ** 2
    return float(starts[np.argmax(inside - PULL * aside)] + share / 2)
