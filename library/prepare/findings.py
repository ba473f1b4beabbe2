"""What the data-set doctor can find, how bad each is for a training, and how it is said."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

ERROR, WARNING, NOTE = SEVERITIES = ("error", "warning", "note")
MANY, A_FEW = 1 / 3, 2  # a warning about more than this part of the pictures, and not about one alone, is an error


class Kind(NamedTuple):
    """One kind of finding: its title, how bad it is, and whether it is an error where it is true of many pictures."""

    title: str
    severity: str
    grows: bool = False


# In the order of the report: what stops a run, what spoils it, what is good to know.
KINDS = {
    "unreadable": Kind("Unreadable", ERROR),
    "caption_not_text": Kind("Caption is no UTF-8 text", ERROR),
    "mask_unfit": Kind("Mask does not fit", ERROR),
    "tiny": Kind("Below half the resolution", ERROR),
    "exact_duplicates": Kind("Exact copies", WARNING, grows=True),
    "near_duplicates": Kind("Nearly the same", WARNING),
    "blurred": Kind("Blurred", WARNING, grows=True),
    "dark": Kind("Dark", WARNING, grows=True),
    "bright": Kind("Washed out", WARNING, grows=True),
    "low_information": Kind("Nearly empty", WARNING, grows=True),
    "enlarged": Kind("Would be enlarged", WARNING),
    "cropped": Kind("Cropped a lot", WARNING),
    "greyscale": Kind("Greyscale", WARNING),
    "caption_missing": Kind("No caption", WARNING, grows=True),
    "caption_empty": Kind("Empty caption", WARNING, grows=True),
    "trigger_missing": Kind("Without the trigger", WARNING, grows=True),
    "caption_long": Kind("Caption too long", WARNING),
    "captions_same": Kind("All captions the same", WARNING),
    "same_stem": Kind("Shared caption", WARNING),
    "small_bucket": Kind("Bucket below one batch", WARNING),
    "other_format": Kind("Not read by training", WARNING),
    "mask_alone": Kind("Mask without a picture", WARNING),
    "mask_scaled": Kind("Mask of another size", NOTE),
    "odd_shape": Kind("Very long or very high", NOTE),
    "caption_lines": Kind("Caption of several lines", NOTE),
    "class_words": Kind("Class words for a caption", NOTE),
    "common_tag": Kind("Tag of nearly all", NOTE),
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong or worth knowing.

    `pictures` are the files it is about, each with words of its own such as "2.4 times", or "". `groups` are those of
    them that belong together, as copies do. `sentence` says what it is and what to do.
    """

    kind: str
    severity: str
    pictures: Mapping[Path, str]
    sentence: str
    groups: tuple[tuple[Path, ...], ...] = field(default=())

    @property
    def title(self) -> str:
        """The kind in words."""
        return KINDS[self.kind].title


def finding(
    kind: str,
    pictures: Mapping[Path, str] | Iterable[Path],
    sentence: str,
    total: int = 0,
    groups: Iterable[Iterable[Path]] = (),
) -> Finding:
    """A finding with the severity of its kind, or of `total` pictures, where many are worse than few, a higher one.

    Copies count without the one of each group that would be kept.
    """
    own = dict(pictures) if isinstance(pictures, Mapping) else dict.fromkeys(pictures, "")
    sets = tuple(tuple(group) for group in groups)
    affected = len(own) - len(sets)
    is_many = KINDS[kind].grows and affected >= A_FEW and affected > MANY * total > 0
    return Finding(kind, ERROR if is_many else KINDS[kind].severity, own, sentence, sets)


def by_weight(findings: Iterable[Finding]) -> list[Finding]:
    """Findings as a report lists them: errors first, and each severity in the order of the kinds."""
    order = list(KINDS)
    return sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), order.index(each.kind)))


def counted(number: int, noun: str = "picture", plural: str = "") -> str:
    """A number with its noun: "1 picture", "2 pictures", or with a plural of its own."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def them(number: int) -> str:
    """What so many things are called when they are mentioned again."""
    return "it" if number == 1 else "them"
