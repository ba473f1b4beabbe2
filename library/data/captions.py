"""Captions: read from the file beside a picture, and varied from epoch to epoch."""

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

from library.data import wildcards
from library.data.folders import Subset
from library.errors import InputError
from library.files import is_endless

FALLBACK_EXTENSION = ".caption"


def read_caption(picture: Path, extension: str) -> list[str]:
    """The lines of the caption of a picture that are not blank; none where there is no caption.

    The caption has the picture's name with `extension`, or else with `.caption`, sd-scripts' default. The
    text is UTF-8, with or without a byte-order mark.
    """
    suffix = extension if extension.startswith(".") else f".{extension}"
    for ending in (suffix, FALLBACK_EXTENSION):
        text = _read_text(picture.with_suffix(ending))
        if text is not None:
            lines = [line.strip() for line in text.splitlines()]
            return [line for line in lines if line]
    return []


def caption_variant(
    caption: str, subset: Subset, seed: int, epoch: int, step: int = 0, steps: int = 0
) -> str:
    """The caption as one moment of the run shows it: varied, thinned out or dropped, as the subset asks.

    The order is that of sd-scripts: prefix and suffix; dropout; a line of several, and the choices in it; token
    warmup, shuffling and dropping of tags; the secondary separator; and last, ours, the trigger words. Tags before
    `keep_tokens_separator`, or else the first `keep_tokens`, stay in place and are never dropped, nor are tags
    after a second separator. The same arguments always give the same text.

    Args:
        caption: with `enable_wildcard` of one line or several
        seed: decides all that is random
        epoch: from 0; `caption_dropout_every_n_epochs` counts it
        step: steps of the run that are finished; token warmup counts them
        steps: steps of the whole run, of which a `token_warmup_step` below 1 is a part
    """
    random = Random(seed)
    every = subset.caption_dropout_every_n_epochs
    if random.random() < subset.caption_dropout_rate or (every and (epoch + 1) % every == 0):
        return ""
    if not subset.enable_wildcard:
        text = _wrapped(caption, subset)
    else:
        line = random.choice(caption.split("\n"))
        text = wildcards.choose(_wrapped(line, subset), random, subset.joint)
    varied = subset.shuffle_caption or subset.caption_tag_dropout_rate > 0 or subset.token_warmup_step > 0
    if varied or _is_marked(text, subset):
        first, free, last = _split_tags(text, subset)
        free = free[: _warm_count(len(free), subset, step, steps)]
        if subset.shuffle_caption:
            free.sort(key=lambda _: random.random())
        free = [tag for tag in free if random.random() >= subset.caption_tag_dropout_rate]
        text = _joined((first, free, last), subset)
    return _finished(text, subset)


def whole_captions(caption: str, subset: Subset) -> list[str]:
    """Each line of a caption with nothing dropped and the longest of its choices, to see how long it can get."""
    if subset.enable_wildcard:
        texts = [wildcards.longest(_wrapped(line, subset), subset.joint) for line in caption.split("\n")]
    else:
        texts = [_wrapped(caption, subset)]
    unmarked = (_joined(_split_tags(t, subset), subset) if _is_marked(t, subset) else t for t in texts)
    return [_finished(text, subset) for text in unmarked]


def is_constant(subset: Subset) -> bool:
    """Whether a caption of the subset is the same text every time that it is shown."""
    return not (
        subset.enable_wildcard
        or subset.shuffle_caption
        or subset.caption_dropout_rate
        or subset.caption_dropout_every_n_epochs
        or subset.caption_tag_dropout_rate
        or subset.token_warmup_step
    )


def without_chance(subset: Subset) -> Subset:
    """The subset with captions that are whole and in their own order; lines and choices are still drawn."""
    return replace(
        subset,
        shuffle_caption=False,
        caption_dropout_rate=0.0,
        caption_dropout_every_n_epochs=0,
        caption_tag_dropout_rate=0.0,
        token_warmup_step=0,
    )


def split_tags(text: str, separator: str) -> list[str]:
    """The tags of a caption, without blanks around them or empty ones."""
    return [tag.strip() for tag in text.split(separator) if tag.strip()]


def _wrapped(line: str, subset: Subset) -> str:
    """A line between prefix and suffix."""
    return " ".join(part for part in (subset.caption_prefix, line, subset.caption_suffix) if part)


def _finished(text: str, subset: Subset) -> str:
    """The text with what comes last: parts held together by the secondary separator, and the trigger words."""
    if subset.secondary_separator:
        text = text.replace(subset.secondary_separator, subset.caption_separator)
    wanted = split_tags(subset.trigger_words or "", subset.caption_separator)
    lacking = [words for words in wanted if not _holds(text, words)]
    return subset.joint.join([*lacking, text] if text else lacking) if lacking else text


def _holds(text: str, words: str) -> bool:
    """Whether a text has these words as whole words, in capitals or not."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) is not None


def _warm_count(count: int, subset: Subset, step: int, steps: int) -> int:
    """How many of `count` free tags are shown after `step` of `steps`: from `token_warmup_min` on up, evenly."""
    warmup = subset.token_warmup_step
    last = math.floor(warmup * steps) if warmup < 1 else int(warmup)
    if step >= last:
        return count
    return subset.token_warmup_min + step * (count - subset.token_warmup_min) // last


def _is_marked(text: str, subset: Subset) -> bool:
    """Whether a mark in the text says which tags stay in place."""
    mark = subset.keep_tokens_separator
    return bool(mark and mark in text)


def _split_tags(caption: str, subset: Subset) -> tuple[list[str], list[str], list[str]]:
    """The tags that stay in front, those that are free, and those that stay behind."""
    if _is_marked(caption, subset):
        marker = subset.keep_tokens_separator
        parts = [split_tags(part, subset.caption_separator) for part in caption.split(marker, 2)]
        return parts[0], parts[1], parts[2] if len(parts) > 2 else []
    tags = split_tags(caption, subset.caption_separator)
    return tags[: subset.keep_tokens], tags[subset.keep_tokens :], []


def _joined(tags: Iterable[list[str]], subset: Subset) -> str:
    """Lists of tags as one text."""
    return subset.joint.join(tag for part in tags for tag in part)


def _read_text(path: Path) -> str | None:
    """The text of a file, or None where there is no file."""
    if is_endless(path):
        raise InputError(f"the caption {path} is no file; a pipe or a device would be waited for without end.")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"the caption {path} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"the caption {path} cannot be read: {error.strerror}.") from error
