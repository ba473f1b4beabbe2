"""How alike drawn pictures are to those trained on (CLIP-I) and to their prompts (CLIP-T); arXiv 2208.12242."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from torch import Tensor


@dataclass(frozen=True)
class Score:
    """One picture's. All numbers are cosines, -1 to 1; None where there is nothing to compare with.

    `image` is the mean over all training pictures, `closest` the largest of them and `closest_to` that picture,
    `text` the cosine with the prompt.
    """

    path: Path
    checkpoint: str
    prompt: str | None
    image: float | None = None
    closest: float | None = None
    closest_to: Path | None = None
    text: float | None = None


@dataclass(frozen=True)
class Summary:
    """The means of one checkpoint's pictures; None where no picture has that number."""

    checkpoint: str
    pictures: int
    image: float | None
    closest: float | None
    text: float | None


def against_pictures(drawn: Tensor, trained: Tensor, files: Sequence[Path]) -> list[tuple[float, float, Path]]:
    """For each drawn picture the mean cosine, the largest one, and the training picture that it is of.

    Args:
        drawn: vectors of length 1, (count, width)
        trained: those of the training pictures, (len(files), width)
        files: the training pictures
    """
    cosines = drawn.double() @ trained.double().t()
    best = cosines.max(dim=1)
    columns = (cosines.mean(dim=1).tolist(), best.values.tolist(), best.indices.tolist())
    return [(mean, largest, files[index]) for mean, largest, index in zip(*columns, strict=True)]


def summaries(scores: Sequence[Score]) -> list[Summary]:
    """One for each checkpoint, by name."""
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(score.checkpoint, []).append(score)
    return [
        Summary(
            name,
            len(group),
            _mean([score.image for score in group]),
            _mean([score.closest for score in group]),
            _mean([score.text for score in group]),
        )
        for name, group in sorted(groups.items())
    ]


def _mean(numbers: Sequence[float | None]) -> float | None:
    there = [number for number in numbers if number is not None]
    return fmean(there) if there else None
