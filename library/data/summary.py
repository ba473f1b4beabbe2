"""The dataset in a few lines, for a person to check before a run."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from library.data.dataset import Dataset
from library.data.folders import Subset
from library.data.pictures import Picture


def describe(dataset: Dataset) -> str:
    """Folders with pictures, repeats and captions; samples an epoch; buckets; what was left out."""
    own: dict[Subset, list[Picture]] = {}
    for subset, pictures in groupby(dataset.pictures, attrgetter("subset")):
        own.setdefault(subset, []).extend(pictures)
    has_sizes = len({subset.resolution for subset in own}) > 1
    lines = [_subset_line(subset, pictures, has_sizes) for subset, pictures in own.items()]
    lines.append(_sample_line(dataset))
    buckets = (f"{width}x{height}: {count}" for (width, height), count in dataset.bucket_counts().items())
    lines.append(f"buckets: {', '.join(buckets)}")
    if dataset.skipped:
        lines.append(f"left out, unreadable: {len(dataset.skipped)} pictures")
    return "\n".join(lines)


def _subset_line(subset: Subset, own: Sequence[Picture], has_sizes: bool) -> str:
    captions = Counter(picture.has_caption for picture in own)
    kind = "regularisation, " if subset.is_reg else ""
    size = " at {}x{}".format(*subset.resolution) if has_sizes else ""
    line = f"{subset.source}: {kind}{len(own)} pictures x {subset.num_repeats}{size}, {captions[True]} captions"
    if captions[False]:
        words = f'"{subset.class_tokens}"' if subset.class_tokens else "no words"
        line += f", {captions[False]} without: {words}"
    masks = sum(picture.mask is not None for picture in own)
    line += f", {masks} masks" if masks else ""
    return line


def _sample_line(dataset: Dataset) -> str:
    line = f"samples an epoch: {dataset.sample_count}"
    regs = dataset.sample_count_of(is_reg=True)
    if not regs:
        return line
    unused = sum(picture.subset.is_reg for picture in dataset.pictures) - dataset.picture_count(is_reg=True)
    line += f" ({regs} of them regularisation, from {dataset.picture_count(is_reg=True)} pictures"
    return line + (f", {unused} more are not needed)" if unused else ")")
