"""Where masks come from: what every segmenter does, and the simplest one, a picture's own transparency."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from library.data.decoding import alpha_of
from library.prepare.masks import WHITE, Mask

Input = NDArray[Any]  # what a segmenter makes of one picture
Output = NDArray[Any]  # and what it finds there, before it is a mask


class Segmenter(Protocol):
    """Finds what a mask shows, in three steps, of which threads do the first and the last."""

    def prepare(self, image: Image.Image) -> Input | None:
        """The input for an upright picture of any kind; None where the picture can have no mask."""

    def run(self, inputs: Sequence[Input]) -> Sequence[Output]:
        """What is found in several pictures at once."""

    def mask_of(self, output: Output) -> Mask:
        """The mask, of any size in the picture's shape; ValueError where it cannot be made."""


class Transparency:
    """What is opaque in a picture is its mask."""

    def prepare(self, image: Image.Image) -> Mask | None:
        """The alpha channel; None where nothing is transparent."""
        alpha = alpha_of(image)
        return None if alpha is None or alpha.getextrema()[0] == WHITE else np.asarray(alpha)

    def run(self, inputs: Sequence[Mask]) -> Sequence[Mask]:
        """The same."""
        return inputs

    def mask_of(self, output: Mask) -> Mask:
        """The same."""
        return output
