"""The dataset in a few lines, for a person to check before a run."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from library.data.folders import Subset
from library.data.pictures import Picture

if TYPE_CHECKING:
    from library.data.dataset import Dataset


def describe(dataset: "Dataset") -> str:
    """Folders with pictures, repeats and captions; samples an epoch; buckets; what was left out."""
    subsets = dict.fromkeys(picture.subset for picture in dataset.pictures)
    lines = [_subset_line(subset, dataset.pictures) for subset in subsets]
    lines.append(_sample_line(dataset))
    buckets = (f"{width}x{height}: {count}" for (width, height), count in dataset.bucket_counts().items())
    lines.append(f"buckets: {', '.join(buckets)}")
    if dataset.skipped:
        lines.append(f"left out, unreadable: {', '.join(str(path) for path in dataset.skipped)}")
    return "\n".join(lines)


def _subset_line(subset: Subset, pictures: Iterable[Picture]) -> str:
    own = [picture for picture in pictures if picture.subset == subset]
    captions = Counter(picture.has_caption for picture in own)
    kind = "regularisation, " if subset.is_reg else ""
    line = f"{subset.source}: {kind}{len(own)} pictures x {subset.num_repeats}, {captions[True]} captions"
    if captions[False]:
        words = f'"{subset.class_tokens}"' if subset.class_tokens else "no words"
        line += f", {captions[False]} without: {words}"
    masks = sum(picture.mask is not None for picture in own)
    line += f", {masks} masks" if masks else ""
    return line


def _sample_line(dataset: "Dataset") -> str:
    line = f"samples an epoch: {dataset.sample_count}"
    regs = dataset.sample_count_of(is_reg=True)
    if not regs:
        return line
    unused = sum(picture.subset.is_reg for picture in dataset.pictures) - dataset.picture_count(is_reg=True)
    line += f" ({regs} of them regularisation, from {dataset.picture_count(is_reg=True)} pictures"
    return line + (f", {unused} more are not needed)" if unused else ")")
