"""Matching drawn forms against a picture at every place at once, on maps of half the picture's size."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from demo.world import OUTLINE, SIZE, Canvas, Creature, draw_accessory, shape_polygon

HALF = SIZE // 2
MIDDLE = SIZE / 2
BODY_RADII = np.arange(19.0, 43.0, 1.5)  # pixels
UNITS = np.arange(29.0, 42.0, 1.5)  # pixels; an accessory's size, see world.draw_accessory
CORE = OUTLINE / 2  # pixels; the part of an outline that a soft picture leaves dark
BLACK, WHITE, GREY = (0, 0, 0), (255, 255, 255), (128, 128, 128)

Map = NDArray[np.float32]


def half(full: NDArray[np.generic]) -> Map:
    """(SIZE, SIZE) to (HALF, HALF), each the mean of four."""
    return full.astype(np.float32).reshape(HALF, 2, HALF, 2).mean(axis=(1, 3))


@dataclass(frozen=True)
class Stencils:
    """Forms of rising sizes around the middle: their spectra and areas, one for each row of the first axis."""

    spectra: NDArray[np.complexfloating]
    areas: Map

    @classmethod
    def of(cls, drawings: list[Map]) -> "Stencils":
        """From (HALF, HALF) drawings of 0 to 1, form in the middle."""
        stack = np.stack(drawings)
        return cls(np.conj(np.fft.rfft2(stack)), stack.sum(axis=(1, 2)))

    def covered(self, seen: Map) -> Map:
        """How much of `seen` (HALF, HALF) lies under each form at each shift: (forms, HALF, HALF)."""
        return np.fft.irfft2(np.fft.rfft2(seen) * self.spectra, s=(HALF, HALF)).astype(np.float32)


def _grey(canvas: Canvas) -> NDArray[np.uint8]:
    """What is drawn, (SIZE, SIZE) in grey levels."""
    return np.asarray(canvas.finished().convert("L"))


@cache
def bodies(shape: str) -> tuple[Stencils, Stencils]:
    """The filled shape and its outline at BODY_RADII."""
    filled, outlines = [], []
    for radius in BODY_RADII:
        corners = shape_polygon(shape, MIDDLE, MIDDLE, float(radius))
        body, outline = Canvas(BLACK), Canvas(BLACK)
        body.fill(corners, WHITE)
        outline.line([*corners, corners[0]], CORE, WHITE)
        filled.append(half(_grey(body) / 255))
        outlines.append(half(_grey(outline) / 255))
    return Stencils.of(filled), Stencils.of(outlines)


@cache
def accessories(name: str) -> tuple[Stencils, Stencils]:
    """An accessory's ink and its white at UNITS, its own middle in the middle."""
    ink, white = [], []
    for unit in UNITS:
        down = {"hat": 1.19, "bow": -0.6}[name] * unit  # from the accessory's middle to the body's
        creature = Creature(
            shape="square", color="red", eyes=1, accessory=name, size="", place="", background="", pattern="",
            x=MIDDLE, y=MIDDLE + down, radius=float(unit),
        )  # fmt: skip
        canvas = Canvas(GREY)
        draw_accessory(canvas, creature)
        grey = _grey(canvas)
        ink.append(half(ndimage.binary_erosion(grey < 70)))
        white.append(half(ndimage.binary_erosion(grey > 200)))
    return Stencils.of(ink), Stencils.of(white)
