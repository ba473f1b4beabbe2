"""The kinds of models that find a picture's subject: how each wants its pictures, and what its output means."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from library.errors import InputError

Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION: Colour = (0.229, 0.224, 0.225)
SMALL_SIDE = 512  # pixels; of the known models those of U2-Net's family alone take so little
PLACES = 5  # the file and the folders around it whose names tell what a model is, as in the hub's cache


class Kind(NamedTuple):
    """How models of one kind were shown pictures in their training, and what their output means.

    `side` is in pixels, where the file does not say it. Pixels are divided by 255, or by the picture's largest value
    for `by_maximum`; then `mean` is taken off and `deviation` divided by. The output is stretched to the full range
    from 0 to 1, or else is a share, or the logarithm of its odds.
    """

    side: int
    by_maximum: bool
    mean: Colour
    deviation: Colour
    is_stretched: bool


KINDS = {
    # Qin et al., "U2-Net" (2020), and what was trained by the same program.
    "u2net": Kind(320, True, IMAGENET_MEAN, IMAGENET_DEVIATION, True),
    # Qin et al., "Highly Accurate Dichotomous Image Segmentation" (2022), and RMBG-1.4.
    "isnet": Kind(1024, False, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), True),
    # skytnt's IS-Net for drawings, which was shown plain pictures.
    "anime": Kind(1024, False, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), False),
    # Zheng et al., "Bilateral Reference for High-Resolution Dichotomous Image Segmentation" (2024), and RMBG-2.0.
    "birefnet": Kind(1024, False, IMAGENET_MEAN, IMAGENET_DEVIATION, False),
}
# Words in the names of files and folders, the first that fits; RMBG changed its kind with version 2.
NAMES = {
    "anime": "anime",
    "isnetis": "anime",
    "isnet": "isnet",
    "rmbg-1": "isnet",
    "rmbg1": "isnet",
    "rmbg": "birefnet",
    "birefnet": "birefnet",
    "silueta": "u2net",
    "u2net": "u2net",
}


def choose_kind(path: Path, shape: Sequence[int | str | None]) -> str:
    """The kind of a model, from its name or its input's shape. Raises InputError where neither tells."""
    for part in reversed(path.absolute().parts[-PLACES:]):
        for word, kind in NAMES.items():
            if word in part.lower().replace("_", "-"):
                return kind
    if isinstance(shape[-1], int) and 0 < shape[-1] <= SMALL_SIDE:
        return "u2net"
    raise InputError(
        f"how {path} wants its pictures cannot be told by its name; say it by --normalize {', '.join(KINDS)}."
    )
