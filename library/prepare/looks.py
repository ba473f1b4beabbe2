"""How one picture looks, in numbers: sharp, dark, bright, grey, empty; with the fingerprint that finds its copies."""

import io
import math
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage

from library.data.decoding import flatten, read_upright, reason_of
from library.prepare.duplicates import Fingerprint, fingerprint

Plane = NDArray[np.float32]

MEASURED_SIDE = 512  # pixels; the shorter side that a larger picture is measured at, so that size does not matter
SMALL_SIDE = 128  # pixels; what light and colour are measured at
CELL = 8  # pixels of the small picture, the side of the cells in which detail is looked for
CELL_RANGE = 16  # levels of 255 between the lightest and the darkest of a cell that shows something
REBLUR = 1.5  # pixels; the known blur that is added to measure the unknown one
FAINTEST_EDGE = 1.0  # levels a pixel
FEWEST_EDGES = 40
STRONGEST_EDGES = 0.2  # the part of the edges that is looked at; faint ones are noise and background
THUMBNAIL_SIDE, THUMBNAIL_QUALITY = 192, 72
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601, as in Pillow's own "L"
# Kinds of pixels that may be averaged before their colours are worked out, which spares most of that work.
PLAIN_MODES = ("RGB", "RGBA", "L", "CMYK")


@dataclass(frozen=True)
class Looks:
    """What is measured of a picture.

    `width` and `height` are pixels of the upright picture. `softness` is the blur of its edges as the sigma of a
    Gaussian in pixels, measured where the shorter side is at most 512 pixels; None where there are no edges.
    `darkest` and `brightest` are the luminance, 0 to 1, that 5 % of the pixels stay below and above; `colour` is the
    distance of the channels, 0 to 1, that 1 % of the pixels exceed; `detail` is the part of the picture, 0 to 1, that
    is not plain. `thumbnail` is a JPEG, or empty if none was asked for.
    """

    sha256: str
    width: int
    height: int
    softness: float | None
    brightness: float
    darkest: float
    brightest: float
    colour: float
    detail: float
    fingerprint: Fingerprint
    thumbnail: bytes = b""


def look_at(path: Path, thumbnail: bool = False) -> Looks:
    """Decodes a whole picture as training does, and measures it. Raises ValueError where it cannot be read."""
    try:
        content = path.read_bytes()
        image = read_upright(content)
        colours = _reduced(image)
    except Exception as error:  # decoders of broken files raise nearly everything
        raise ValueError(reason_of(error)) from error
    small = _levels(colours.resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.BOX))
    grey = small @ LUMA
    darkest, brightest = np.percentile(grey, (5, 95)) / 255
    return Looks(
        sha256=sha256(content).hexdigest(),
        width=image.width,
        height=image.height,
        softness=softness(_levels(colours.convert("L"))),
        brightness=float(grey.mean()) / 255,
        darkest=float(darkest),
        brightest=float(brightest),
        colour=float(np.percentile(np.ptp(small, axis=2), 99)) / 255,
        detail=detail(small),
        fingerprint=fingerprint(colours),
        thumbnail=_thumbnail(colours) if thumbnail else b"",
    )


def softness(grey: Plane) -> float | None:
    """How blurred a picture (height, width) of 0 to 255 is: the sigma in pixels of the Gaussian its edges went through.

    At a step edge blurred by sigma the gradient is proportional to 1 / sigma; blurred once more by sigma0 it becomes
    1 / sqrt(sigma^2 + sigma0^2). The ratio R of the two gives sigma = sigma0 / sqrt(R^2 - 1) whatever the contrast
    is (Zhuo and Sim, Defocus map estimation from a single image, 2011, equation 5). The median of the strongest edges
    counts: a background out of focus is no fault. Of the two directions the softer one counts, which finds motion.
    """
    again = ndimage.gaussian_filter(grey, REBLUR)
    found = [_softness_along(axis, grey, again) for axis in (0, 1)]
    return max((sigma for sigma in found if sigma is not None), default=None)


def detail(colours: Plane) -> float:
    """The part of a picture (height, width, 3) of 0 to 255 that shows something: cells that are not of one colour."""
    rows, columns = colours.shape[0] // CELL, colours.shape[1] // CELL
    cells = colours[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL, 3)
    return float((np.ptp(cells, axis=(1, 3)).max(axis=-1) > CELL_RANGE).mean())


def _softness_along(axis: int, grey: Plane, again: Plane) -> float | None:
    """The sigma of the edges across one axis, or None if there are too few."""
    if grey.shape[axis] < 2:
        return None
    first, second = (np.abs(np.gradient(plane, axis=axis)) for plane in (grey, again))
    crests = (first >= ndimage.maximum_filter1d(first, 5, axis=axis)) & (first > FAINTEST_EDGE)
    heights = first[crests]
    if len(heights) < FEWEST_EDGES:
        return None
    count = max(FEWEST_EDGES, int(len(heights) * STRONGEST_EDGES))
    strongest = np.argpartition(heights, -count)[-count:]
    ratio = float(np.median(heights[strongest] / np.maximum(second[crests][strongest], 1e-3)))
    return REBLUR / math.sqrt(max(ratio * ratio - 1, 1e-2))


def _reduced(image: Image.Image) -> Image.Image:
    """The picture in sRGB on white, its shorter side at most 512 pixels."""
    factor = min(image.size) // (2 * MEASURED_SIDE)
    if factor > 1 and image.mode in PLAIN_MODES:
        image = image.reduce(factor)
    image = flatten(image)
    scale = MEASURED_SIDE / min(image.size)
    if scale >= 1:
        return image
    size = round(image.width * scale), round(image.height * scale)
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)


def _levels(image: Image.Image) -> Plane:
    return np.asarray(image, dtype=np.float32)


def _thumbnail(image: Image.Image) -> bytes:
    file = io.BytesIO()
    small = ImageOps.contain(image, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)) if max(image.size) > THUMBNAIL_SIDE else image
    small.save(file, "JPEG", quality=THUMBNAIL_QUALITY, optimize=True)
    return file.getvalue()
