"""What an eye takes from a picture before it judges: the colour word of every pixel, the ground, the creature on it."""

from collections import Counter
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from demo.world import BACKGROUNDS, PALETTE, SIZE, second_tone

Mask = NDArray[np.bool_]
Map = NDArray[np.float32]

NAMES = tuple(PALETTE)
FRAME = 6  # pixels at the rim where only ground is seen
FRAME_SHARE = 0.75  # of the frame that one colour must hold to be called the background
TONE = 0.87  # the second tone of patterns, see world.second_tone
NEAR = 62.0  # RGB distance up to which a pixel has a colour word; the palette's colours lie 86 and more apart
GROUND_NEAR = 55.0  # RGB distance up to which a pixel belongs to the ground
ODD = 62.0  # RGB distance from all expected colours from which on a pixel is odd
SPECK = 12  # pixels; what is smaller is noise, not a thing


@cache
def _anchors() -> tuple[Map, NDArray[np.intp]]:
    """The colours that have words, (colours, 3), and the number of the word for each; patterns share their ground's."""
    colors = [(color, NAMES.index(name)) for name, color in PALETTE.items()]
    colors += [(second_tone(PALETTE[name]), NAMES.index(name)) for name in BACKGROUNDS]
    return np.array([color for color, _ in colors], np.float32), np.array([word for _, word in colors])


@cache
def _frame() -> Mask:
    """The rim of the picture."""
    frame = np.ones((SIZE, SIZE), bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    return frame


def distances(pixels: Map, colors: Map) -> Map:
    """How far (height, width, 3) pixels are from (colours, 3) in RGB: (height, width, colours)."""
    squares = (pixels**2).sum(axis=2)[:, :, None] + (colors**2).sum(axis=1) - 2.0 * (pixels @ colors.T)
    return np.sqrt(np.maximum(squares, 0.0))


def label(pixels: Map) -> NDArray[np.intp]:
    """The number in NAMES of the nearest colour word for (height, width, 3) pixels; -1 where none is near."""
    anchors, words = _anchors()
    distance = distances(pixels, anchors)
    return np.where(distance.min(axis=2) < NEAR, words[distance.argmin(axis=2)], -1)


@dataclass(frozen=True)
class Sight:
    """A picture of SIZE x SIZE: `pixels` (SIZE, SIZE, 3) in 0 to 255 and `labels`, their colour words."""

    pixels: Map
    labels: NDArray[np.intp]

    def having(self, *names: str) -> Mask:
        """The pixels that have one of these colour words."""
        return np.isin(self.labels, [NAMES.index(name) for name in names])

    @cached_property
    def background(self) -> str | None:
        """The colour that holds most of the frame; None where no ground colour holds enough of it."""
        name, share = most_common(self.labels[_frame()], int(_frame().sum()))
        return name if name in BACKGROUNDS and share >= FRAME_SHARE else None

    @cached_property
    def ground(self) -> Map:
        """The colours of the ground, (3, 3): what is usual in the frame, and a darker and a lighter tone of it."""
        usual = np.median(self.pixels[_frame()], axis=0)
        return np.stack([usual, TONE * usual, np.minimum(usual / TONE, 255.0)]).astype(np.float32)

    @cached_property
    def figure(self) -> Mask:
        """What stands on the ground: all that the ground's colours do not reach from the rim, whatever their words."""
        parts, _ = ndimage.label(distances(self.pixels, self.ground).min(axis=2) < GROUND_NEAR)
        rim = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        figure = ~np.isin(parts, np.unique(rim[rim > 0]))
        return drop_specks(ndimage.binary_opening(figure, iterations=1))

    @cached_property
    def flat(self) -> Mask:
        """The pixels whose neighbours all have the same colour word: those that no edge has mixed."""
        return ndimage.minimum_filter(self.labels, size=3) == ndimage.maximum_filter(self.labels, size=3)

    @cached_property
    def skin(self) -> Mask:
        """The coloured part of the figure, neither ink nor white, up to where its edges mix with them."""
        colored = self.figure & ~self.having("ink", "white")
        return ndimage.binary_dilation(colored & self.flat, iterations=2) & colored

    @cached_property
    def ink(self) -> Map:
        """How much of each pixel is ink, 0 to 1; half-way colours of blurred outlines count half."""
        return self._likeness("ink")

    @cached_property
    def white(self) -> Map:
        """How much of each pixel is white, 0 to 1."""
        return self._likeness("white")

    def _likeness(self, name: str) -> Map:
        """From 1 near a colour to 0 where other colours begin."""
        distance = distances(self.pixels, np.array([PALETTE[name]], np.float32))[:, :, 0]
        return np.clip(1.5 - distance / 72.0, 0.0, 1.0).astype(np.float32)

    @cached_property
    def unexplained(self) -> Mask:
        """The pixels that are neither the ground's colours nor the skin's usual one, ink, white or an edge between."""
        usual = np.median(self.pixels[self.skin], axis=0) if self.skin.any() else self.ground[0]
        expected = np.array([*self.ground, usual, PALETTE["ink"], PALETTE["white"]], np.float32)
        distance = distances(self.pixels, expected).min(axis=2)
        return ndimage.minimum_filter(distance, size=5) > ODD


def look(picture: Image.Image) -> Sight:
    """See a picture; other sizes are brought to SIZE x SIZE."""
    if picture.size != (SIZE, SIZE):
        picture = picture.resize((SIZE, SIZE), Image.Resampling.BOX)
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return Sight(pixels, label(pixels))


def most_common(labels: NDArray[np.intp], total: int) -> tuple[str | None, float]:
    """The colour word that most of these pixels have, and its share of `total`."""
    counts = Counter(labels[labels >= 0].tolist())
    if not counts or not total:
        return None, 0.0
    word, count = counts.most_common(1)[0]
    return NAMES[word], count / total


def drop_specks(mask: Mask, smallest: int = SPECK) -> Mask:
    """The mask without its parts of fewer than `smallest` pixels."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return sizes[parts] >= smallest


def biggest(mask: Mask) -> Mask:
    """The largest connected part of the mask."""
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return (parts == sizes.argmax()) & mask
