"""The order of training: which samples an epoch has, and in which batches they come."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


# What one step learns from: samples of one size, however they are split over processes and forward passes.
EffectiveBatch = tuple[Sample, ...]


def list_samples(pictures: Iterable[Picture], prior_loss_weight: float) -> tuple[Sample, ...]:
    """Every sample of an epoch: pictures times repeats, then as many regularisation samples.

    As in sd-scripts, regularisation pictures are taken in order until there are as many samples of them as of
    the others, once more each while there are too few; what is left over is not used.
    """
    ordered = list(pictures)
    train = _showings(picture for picture in ordered if not picture.subset.is_reg)
    reg = _match([picture for picture in ordered if picture.subset.is_reg], len(train))
    pairs = [(*pair, False, 1.0) for pair in train] + [(*pair, True, prior_loss_weight) for pair in reg]
    return tuple(
        Sample(picture, repeat, index, is_reg, weight)
        for index, (picture, repeat, is_reg, weight) in enumerate(pairs)
    )


def plan_epoch(samples: Sequence[Sample], seed: int, epoch: int, effective_batch: int) -> list[EffectiveBatch]:
    """The batches of one epoch: samples shuffled within their bucket, then batches among themselves.

    A bucket's last batch may have fewer samples than `effective_batch`.
    """
    batches: list[tuple[int, EffectiveBatch]] = []
    for size, bucket in sorted(by_size(samples).items()):
        order = sorted(bucket, key=lambda sample: (sample.seed(seed, "order", epoch), sample.index))
        for number, start in enumerate(range(0, len(order), effective_batch)):
            place = derive_seed(seed, "batch", epoch, *size, number)
            batches.append((place, tuple(order[start : start + effective_batch])))
    return [batch for _, batch in sorted(batches, key=lambda pair: pair[0])]


def by_size(samples: Iterable[Sample]) -> dict[Size, list[Sample]]:
    """The samples of each bucket, by its (width, height)."""
    buckets: dict[Size, list[Sample]] = defaultdict(list)
    for sample in samples:
        buckets[sample.picture.size].append(sample)
    return dict(buckets)


def _showings(pictures: Iterable[Picture]) -> list[tuple[Picture, int]]:
    """Each picture with each of its repeats."""
    return [(picture, repeat) for picture in pictures for repeat in range(picture.subset.num_repeats)]


def _match(pictures: list[Picture], count: int) -> list[tuple[Picture, int]]:
    """Exactly `count` (picture, repeat): each picture with its own repeats, then one more of each in turn."""
    pairs = _showings(pictures)
    extra = 0
    while pairs and len(pairs) < count:
        pairs += [(picture, picture.subset.num_repeats + extra) for picture in pictures]
        extra += 1
    return pairs[:count]
