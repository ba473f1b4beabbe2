"""A picture of the dataset: what is known of it once it has been checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from library.data.buckets import Placing, Size
from library.data.folders import Subset


class Mask(NamedTuple):
    """What says how much each pixel counts: a file of its own, or the picture's if that is its transparency."""

    path: Path
    sha256: str
    is_alpha: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture file, its caption and its bucket.

    `width` and `height` are pixels of the upright picture. `copy` counts earlier pictures of the same
    content, so that (`sha256`, `copy`) names one picture wherever its file lies. Without `mask` every pixel counts.
    """

    path: Path
    sha256: str
    width: int
    height: int
    placing: Placing
    caption: str
    has_caption: bool
    subset: Subset
    copy: int = 0
    mask: Mask | None = None

    @property
    def size(self) -> Size:
        """(width, height) of its bucket in pixels."""
        return self.placing.size

    @property
    def key(self) -> str:
        """A name that depends on the content alone, for everything random about the picture."""
        return f"{self.sha256}.{self.copy}"
