"""From a folder of pictures to a mask for each: read by threads, segmented in batches, written by threads."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from library.data.decoding import read_upright, reason_of
from library.data.masks import mask_name, read_mask
from library.files import write_atomically
from library.prepare.masks import Recipe, merged, resized, shaped, with_floor
from library.prepare.segmenters import Input, Output, Segmenter
from library.prepare.walk import Outcome, read_ahead

WRITTEN, KEPT, OPAQUE = "written", "kept", "without transparency"


class Read(NamedTuple):
    """A picture's size in pixels, upright, and the segmenter's input for it; None where it can have no mask."""

    size: tuple[int, int]
    input: Input | None


class Found(NamedTuple):
    """A picture's size in pixels, upright, and what the segmenter found in it; None where it can have no mask."""

    size: tuple[int, int]
    output: Output | None


def plan_masks(
    pictures: Sequence[Path], folder: Path, output: Path | None, mode: str
) -> tuple[dict[Path, Path], Outcome]:
    """The pictures that are to get a mask, each with the mask's path, and what is already known of the others.

    Args:
        pictures: they lie in `folder` or in folders inside it
        folder: what was searched
        output: where masks go, in the same folders as in `folder`; None puts them beside the pictures
        mode: "skip" leaves out pictures that have a mask there
    """
    targets: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    outcome = Outcome()
    for picture in pictures:
        place = picture.parent if output is None else output / picture.parent.relative_to(folder)
        target = place / mask_name(picture)
        owner = owners.setdefault(target, picture)
        if owner is not picture:
            outcome.fail(picture, f"its mask would have the name of {owner.name}'s; rename one of the two pictures")
        elif mode == "skip" and target.is_file():
            outcome.count(KEPT)
        else:
            targets[picture] = target
    return targets, outcome


def make_masks(
    targets: Mapping[Path, Path],
    outcome: Outcome,
    segmenter: Segmenter,
    recipe: Recipe,
    batch_size: int,
    workers: int,
) -> None:
    """Writes the masks of pictures.

    Args:
        targets: the pictures, each with its mask's path
        outcome: where it is noted what became of them
        segmenter: finds what the masks show
        recipe: what is done with that
        batch_size: pictures that are segmented at once
        workers: threads that read, and threads that write
    """
    found = _found(list(targets), segmenter, batch_size, workers)
    write = partial(_write, targets, segmenter, recipe)
    with tqdm(total=len(targets), desc="masks", unit="picture", delay=0.5) as bar:
        for (picture, _), result in read_ahead(found, write, workers):
            bar.update()
            if isinstance(result, Exception):
                outcome.fail(picture, reason_of(result))
            else:
                outcome.count(result)
    outcome.counts = {word: outcome.counts[word] for word in (WRITTEN, KEPT, OPAQUE) if word in outcome.counts}


def _found(
    pictures: Sequence[Path], segmenter: Segmenter, batch_size: int, workers: int
) -> Iterator[tuple[Path, Found | Exception]]:
    """Each picture with what was found in it or the exception that reading it raised; the order may change."""
    batch: list[tuple[Path, Read]] = []
    for picture, result in read_ahead(pictures, partial(_read, segmenter), workers):
        if isinstance(result, Exception):
            yield picture, result
        elif result.input is None:
            yield picture, Found(result.size, None)
        else:
            batch.append((picture, result))
        if len(batch) == batch_size:
            yield from _run(batch, segmenter)
            batch = []
    yield from _run(batch, segmenter)


def _read(segmenter: Segmenter, picture: Path) -> Read:
    image = read_upright(picture.read_bytes())
    return Read(image.size, segmenter.prepare(image))


def _run(batch: Sequence[tuple[Path, Read]], segmenter: Segmenter) -> Iterator[tuple[Path, Found]]:
    inputs = [read.input for _, read in batch if read.input is not None]
    outputs = segmenter.run(inputs) if inputs else ()
    for (picture, read), output in zip(batch, outputs, strict=True):
        yield picture, Found(read.size, output)


def _write(
    targets: Mapping[Path, Path], segmenter: Segmenter, recipe: Recipe, item: tuple[Path, Found | Exception]
) -> str:
    """Writes one mask; what was done, in a word. Raises the exception that is in the item, if there is one."""
    picture, found = item
    if isinstance(found, Exception):
        raise found
    if found.output is None:
        return OPAQUE
    target = targets[picture]
    has_old = target.is_file() and recipe.mode not in ("skip", "overwrite")
    old = np.asarray(read_mask(target, found.size)) if has_old else None
    new = shaped(resized(segmenter.mask_of(found.output), found.size), recipe)
    mask = merged(old, new, recipe.mode)
    if not mask.any():
        raise ValueError("its mask would be all black; none is written, so all of the picture counts")
    image = Image.fromarray(with_floor(mask, recipe.min_value))
    write_atomically(target, lambda unfinished: image.save(unfinished, format="PNG"))
    return WRITTEN
