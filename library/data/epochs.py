"""The order of training: which samples an epoch has, and in which batches they come."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from library.data.buckets import Size
from library.data.pictures import Picture
from library.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Sample:
    """One showing of a picture in an epoch: its `repeat`-th. `index` counts the samples of the dataset."""

    picture: Picture
    repeat: int
    index: int
    is_reg: bool
    loss_weight: float

    def seed(self, seed: int, purpose: str, epoch: int) -> int:
        """A seed from what the sample is, not from where it stands: added pictures do not change it."""
        return derive_seed(seed, purpose, epoch, self.picture.key, self.repeat)


class Shape(NamedTuple):
    """What the samples of a batch share: their (width, height) in pixels, and how many of them a device takes."""

    size: Size
    batch_size: int


Showing = tuple[Picture, int]  # a picture and which of its repeats

# What one step learns from: samples of one shape, however they are split over processes and forward passes.
EffectiveBatch = tuple[Sample, ...]


def list_samples(pictures: Iterable[Picture], prior_loss_weight: float) -> tuple[Sample, ...]:
    """Every sample of an epoch: pictures times repeats, then as many regularisation samples.

    As in sd-scripts, regularisation pictures are taken in order until there are as many samples of them as of
    the others, once more each while there are too few; what is left over is not used. That holds for each
    resolution by itself; those of a resolution that nothing is trained at go with all that have none of their own.
    """
    ordered = list(pictures)
    train = _showings(picture for picture in ordered if not picture.subset.is_reg)
    reg = _regularisation(ordered, train)
    first = (Sample(*pair, index, False, 1.0) for index, pair in enumerate(train))
    last = (Sample(*pair, index, True, prior_loss_weight) for index, pair in enumerate(reg, len(train)))
    return (*first, *last)


def plan_epoch(samples: Sequence[Sample], seed: int, epoch: int, times: int) -> list[EffectiveBatch]:
    """The batches of one epoch: samples shuffled within their bucket, then batches among themselves.

    Each has `times` as many samples as a device takes, and a bucket's last one perhaps fewer.
    """
    batches: list[tuple[int, EffectiveBatch]] = []
    numbers: dict[Size, Iterator[int]] = defaultdict(count)
    for (size, batch_size), bucket in sorted(by_shape(samples).items()):
        order = sorted(bucket, key=lambda sample: (sample.seed(seed, "order", epoch), sample.index))
        for start in range(0, len(order), batch_size * times):
            place = derive_seed(seed, "batch", epoch, *size, next(numbers[size]))
            batches.append((place, tuple(order[start : start + batch_size * times])))
    return [batch for _, batch in sorted(batches, key=lambda pair: pair[0])]


def by_shape(samples: Iterable[Sample]) -> dict[Shape, list[Sample]]:
    """The samples that may share a batch."""
    shapes: dict[Shape, list[Sample]] = defaultdict(list)
    for sample in samples:
        shapes[Shape(sample.picture.size, sample.picture.subset.batch_size)].append(sample)
    return dict(shapes)


def _showings(pictures: Iterable[Picture]) -> list[Showing]:
    """Each picture with each of its repeats."""
    return [(picture, repeat) for picture in pictures for repeat in range(picture.subset.num_repeats)]


def _regularisation(pictures: Iterable[Picture], train: Iterable[Showing]) -> list[Showing]:
    """As many showings of regularisation pictures as there are of the others, at each resolution."""
    wanted = Counter(picture.subset.resolution for picture, _ in train)
    found: dict[Size, list[Picture]] = defaultdict(list)
    for picture in pictures:
        if picture.subset.is_reg:
            found[picture.subset.resolution].append(picture)
    own = [_match(found[resolution], wanted[resolution]) for resolution in found if resolution in wanted]
    others = [picture for resolution in found if resolution not in wanted for picture in found[resolution]]
    rest = sum(wanted[resolution] for resolution in wanted if resolution not in found)
    return [pair for pairs in (*own, _match(others, rest)) for pair in pairs]


def _match(pictures: list[Picture], count: int) -> list[Showing]:
    """Exactly `count`: each picture with its own repeats, then one more of each in turn."""
    pairs = _showings(pictures)
    extra = 0
    while pairs and len(pairs) < count:
        pairs += [(picture, picture.subset.num_repeats + extra) for picture in pictures]
        extra += 1
    return pairs[:count]
