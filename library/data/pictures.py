"""A picture of the dataset: what is known of it once it has been checked."""

from dataclasses import dataclass
from pathlib import Path

from library.data.buckets import Placing, Size
from library.data.folders import Subset


@dataclass(frozen=True)
class Picture:
    """One picture file, its caption and its bucket.

    `width` and `height` are pixels of the upright picture. `copy` counts earlier pictures of the same
    content, so that (`sha256`, `copy`) names one picture wherever its file lies.
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

    @property
    def size(self) -> Size:
        """(width, height) of its bucket in pixels."""
        return self.placing.size

    @property
    def key(self) -> str:
        """A name that depends on the content alone, for everything random about the picture."""
        return f"{self.sha256}.{self.copy}"
