"""Captions: read from the file beside a picture, and varied from epoch to epoch."""

from pathlib import Path
from random import Random

from library.data.folders import Subset
from library.errors import InputError

FALLBACK_EXTENSION = ".caption"


def read_caption(picture: Path, extension: str) -> list[str]:
    """The lines of the caption of a picture that are not blank; none where there is no caption.

    The caption has the picture's name with `extension`, or else with `.caption`, sd-scripts' default. The
    text is UTF-8, with or without a byte-order mark.
    """
    suffix = extension if extension.startswith(".") else f".{extension}"
    for path in (picture.with_suffix(suffix), picture.with_suffix(FALLBACK_EXTENSION)):
        if path.is_file():
            lines = [line.strip() for line in _read_text(path).splitlines()]
            return [line for line in lines if line]
    return []


def caption_variant(caption: str, subset: Subset, seed: int, epoch: int) -> str:
    """The caption as one epoch (from 0) shows it: with prefix and suffix, shuffled, thinned out or dropped.

    Tags before `keep_tokens_separator`, or else the first `keep_tokens`, stay in place and are never dropped,
    nor are tags after a second separator. The same arguments always give the same text.
    """
    random = Random(seed)
    whole = " ".join(part for part in (subset.caption_prefix, caption, subset.caption_suffix) if part)
    every = subset.caption_dropout_every_n_epochs
    if random.random() < subset.caption_dropout_rate or (every and (epoch + 1) % every == 0):
        return ""
    varied = subset.shuffle_caption or subset.caption_tag_dropout_rate > 0
    marked = subset.keep_tokens_separator and subset.keep_tokens_separator in whole
    if not varied and not marked:
        return whole
    first, free, last = _split_tags(whole, subset)
    if subset.shuffle_caption:
        free.sort(key=lambda _: random.random())
    free = [tag for tag in free if random.random() >= subset.caption_tag_dropout_rate]
    return _joint(subset.caption_separator).join(first + free + last)


def split_tags(text: str, separator: str) -> list[str]:
    """The tags of a caption, without blanks around them or empty ones."""
    return [tag.strip() for tag in text.split(separator) if tag.strip()]


def _split_tags(caption: str, subset: Subset) -> tuple[list[str], list[str], list[str]]:
    """The tags that stay in front, those that are free, and those that stay behind."""
    marker = subset.keep_tokens_separator
    if marker and marker in caption:
        parts = [split_tags(part, subset.caption_separator) for part in caption.split(marker, 2)]
        return parts[0], parts[1], parts[2] if len(parts) > 2 else []
    tags = split_tags(caption, subset.caption_separator)
    return tags[: subset.keep_tokens], tags[subset.keep_tokens :], []


def _joint(separator: str) -> str:
    """What tags are joined with: the separator and a blank, unless it brings its own."""
    return separator if separator[-1:].isspace() else f"{separator} "


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the caption {path} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"the caption {path} cannot be read: {error.strerror}.") from error
