"""Pictures kept out of training, to see how the model does on what it has not seen."""

from collections.abc import Iterable
from dataclasses import replace

from library.data.captions import without_chance
from library.data.dataset import Dataset
from library.data.folders import Subset
from library.data.pictures import Picture
from library.errors import InputError
from library.seeds import derive_seed


def split_validation(dataset: Dataset, part: float, seed: int) -> tuple[Dataset, Dataset]:
    """The dataset without about `part` of its pictures, and those pictures as they are validated on.

    A picture is drawn by the hash of its content, so it stays on its side when others are added, and copies
    stay together. Where none is drawn, the nearest to it is taken, and where every one is, the last is left;
    only then can an added picture change that. Regularisation pictures are never held out.

    Args:
        dataset: what would be trained on
        part: share of the pictures, above 0 and below 1
        seed: `validation_seed`
    """
    lots = {picture.sha256: _lot(picture, seed) for picture in dataset.pictures if not picture.subset.is_reg}
    if len(lots) < 2:
        raise InputError(
            "validation_split needs two different pictures at least, one to train on and one to hold out; "
            f"there is {len(lots)}. Add pictures or leave validation_split out."
        )
    ranked = sorted(lots, key=lambda content: (lots[content], content))
    drawn = sum(lots[content] < part for content in ranked)
    held = set(ranked[: min(max(drawn, 1), len(ranked) - 1)])
    kept = [picture for picture in dataset.pictures if picture.subset.is_reg or picture.sha256 not in held]
    return dataset.with_pictures(kept), _plainly(dataset, held)


def validation_view(dataset: Dataset) -> Dataset:
    """The training pictures as they are validated on: once each, nothing by chance, no regularisation."""
    return _plainly(dataset, {picture.sha256 for picture in dataset.pictures})


def _plainly(dataset: Dataset, contents: Iterable[str]) -> Dataset:
    wanted = [p for p in dataset.pictures if not p.subset.is_reg and p.sha256 in contents]
    plain = {subset: _without_chance(subset) for subset in {picture.subset for picture in wanted}}
    return dataset.with_pictures(replace(picture, subset=plain[picture.subset]) for picture in wanted)


def _without_chance(subset: Subset) -> Subset:
    span = subset.face_crop_aug_range
    middling = (span[0] * span[1]) ** 0.5 if span else 0.0
    return replace(
        without_chance(subset),
        num_repeats=1,
        flip_aug=False,
        color_aug=False,
        random_crop=False,
        face_crop_aug_range=(middling, middling) if span else None,
    )


def _lot(picture: Picture, seed: int) -> float:
    """A number from 0 to 1 that belongs to the picture's content."""
    return derive_seed(seed, "validation", picture.sha256) / 2**63
