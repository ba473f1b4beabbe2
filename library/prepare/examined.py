"""What the data-set doctor knows of each picture: how it looks, where it goes in training, and its caption."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from library.data.buckets import Placing, place, subset_buckets
from library.data.captions import read_caption, whole_captions
from library.data.folders import COUNTED_FOLDER, Subset, collect_pictures, find_subsets
from library.errors import InputError
from library.prepare.looks import Looks, look_at
from library.prepare.sidecars import caption_path
from library.prepare.walk import find_pictures, work_through

TOKENIZER = Path(__file__).resolve().parents[1] / "models" / "files" / "sd1" / "tokenizer"
PICTURES_PER_PROCESS = 8  # fewer are done before another process has started


@dataclass(frozen=True)
class Wish:
    """What the pictures are to be trained with.

    `subset` holds the settings of every folder, whose own path and class words take their place in it.
    """

    subset: Subset
    train_batch_size: int = 1
    max_token_length: int = 75
    trigger_word: str = ""


@dataclass(frozen=True)
class Caption:
    """A picture's caption: the file's lines, and each as training shows it whole (with class words for none).

    `tokens` is the length of the longest, without markers; `problem` says why the file is no text.
    """

    lines: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    tokens: int = 0
    has_file: bool = False
    problem: str = ""

    @property
    def words(self) -> str:
        """The caption as one text."""
        return "\n".join(self.shown)


@dataclass(frozen=True)
class Examined:
    """One picture; `looks` and `placing` are None where it cannot be read, and `reason` says why."""

    path: Path
    subset: Subset
    caption: Caption
    looks: Looks | None = None
    placing: Placing | None = None
    reason: str = ""

    @cached_property
    def enlargement(self) -> float:
        """What its bucket makes its sides longer by: 2.0 is twice as long; below 1 it is made smaller."""
        if self.looks is None or self.placing is None:
            return 0.0
        width, height = self.placing.resized
        return max(width / self.looks.width, height / self.looks.height)

    @cached_property
    def smallness(self) -> float:
        """How much longer the sides of the resolution's area are than the picture's, wherever it goes."""
        if self.looks is None:
            return 0.0
        width, height = self.subset.resolution
        return float((width * height / (self.looks.width * self.looks.height)) ** 0.5)

    @cached_property
    def loss(self) -> float:
        """The part of the picture, 0 to 1, that its bucket cuts off."""
        if self.placing is None:
            return 0.0
        (wide, high), (width, height) = self.placing
        return 1 - width * height / (wide * high)


def find_folders(folder: Path, wish: Wish, recursive: bool) -> dict[Subset, list[Path]]:
    """The folders with their pictures, as training finds them; with `recursive` every folder inside as one more.

    Raises InputError where there are none.
    """
    if recursive:
        parents = dict.fromkeys(path.parent for path in find_pictures(folder, recursive=True))
        subsets = [_subset_of(parent, wish.subset) for parent in parents]
    else:
        subsets = find_subsets(folder, False, wish.subset)
    found, complaints = collect_pictures(subsets)
    if complaints:
        raise InputError.of(complaints)
    if not found:
        raise InputError(f"no pictures of {folder} are used; the folders' numbers of repeats must be 1 or more.")
    return {subset: list(pictures) for subset, pictures in found}


def examine(folders: Mapping[Subset, list[Path]], thumbnails: bool = False, processes: int = 0) -> list[Examined]:
    """All pictures, read and measured by several processes (0: as many as help), with their captions.

    Raises InputError where the sizes of the buckets do not fit together.
    """
    buckets = {subset: subset_buckets(subset) for subset in folders}
    owners = [(subset, path) for subset, paths in folders.items() for path in paths]
    captions = [_caption(path, subset) for subset, path in owners]
    lengths = token_counts({text for caption in captions for text in caption.shown})
    look = partial(look_at, thumbnail=thumbnails)
    workers = processes or max(1, min(os.cpu_count() or 1, len(owners) // PICTURES_PER_PROCESS))
    results = work_through([path for _, path in owners], look, "looking at pictures", workers)
    examined = []
    for (subset, path), caption, (_, result) in zip(owners, captions, results, strict=True):
        caption = replace(caption, tokens=max((lengths[text] for text in caption.shown), default=0))
        if isinstance(result, Looks):
            placing = place((result.width, result.height), buckets[subset], subset)
            examined.append(Examined(path, subset, caption, result, placing))
        elif isinstance(result, ValueError):
            examined.append(Examined(path, subset, caption, reason=str(result)))
        else:
            raise result
    return examined


def token_counts(texts: Iterable[str]) -> dict[str, int]:
    """How many tokens of CLIP's each text has, markers not counted."""
    unique = [text for text in dict.fromkeys(texts) if text]
    counts = {"": 0}
    if unique:
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
        ids = tokenizer(unique, add_special_tokens=False, verbose=False)["input_ids"]
        counts |= {text: len(tokens) for text, tokens in zip(unique, ids, strict=True)}
    return counts


def _subset_of(folder: Path, defaults: Subset) -> Subset:
    """The pictures directly in a folder; a name like `10_class words` counts."""
    match = COUNTED_FOLDER.fullmatch(folder.resolve().name)
    if match is None:
        return replace(defaults, image_dir=folder)
    words = match[2].strip() or defaults.class_tokens
    return replace(defaults, image_dir=folder, num_repeats=int(match[1]), class_tokens=words)


def _caption(path: Path, subset: Subset) -> Caption:
    has_file = caption_path(path, subset.caption_extension).is_file()
    try:
        lines = tuple(read_caption(path, subset.caption_extension))
    except InputError as error:
        return Caption(has_file=True, problem=error.sentences[0])
    used = lines if subset.enable_wildcard else lines[:1]
    text = "\n".join(used) or subset.class_tokens or ""
    shown = tuple(part for part in whole_captions(text, subset) if part)
    return Caption(lines, shown, has_file=has_file)
