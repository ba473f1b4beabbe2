"""A folder of pictures tagged: which of them still need tags, and what is written beside each."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from library.data.decoding import reason_of
from library.errors import InputError
from library.files import write_atomically
from library.prepare.sidecars import caption_path, keeps, merged, read_sidecar, write_sidecar
from library.prepare.tag_line import TagRules, tag_line
from library.prepare.tagger import Pixels, Tagger, tag_pictures
from library.prepare.walk import Outcome

WORTH_KEEPING = 0.01  # probabilities below are left out of the report


@dataclass(frozen=True)
class Writing:
    """How tag lines become caption files: the files' ending, one of sidecars.MODES, and what goes between and first."""

    extension: str = ".txt"
    mode: str = "skip"
    separator: str = ", "
    trigger_word: str = ""


@dataclass
class Tagging:
    """What came of a folder: the outcome, how often each tag was written, and all that the model found."""

    outcome: Outcome = field(default_factory=Outcome)
    frequencies: Counter[str] = field(default_factory=Counter)
    report: dict[str, dict[str, object]] = field(default_factory=dict)


def tag_folder(
    tagger: Tagger, pictures: Sequence[Path], rules: TagRules, writing: Writing, batch_size: int, is_reported: bool
) -> Tagging:
    """Tags the pictures and writes each caption at once, so that a run can be stopped and started again.

    `is_reported` asks for the probabilities too, and so for those of pictures whose captions are kept.
    """
    tagging = Tagging()
    needed = _needing_tags(pictures, writing, is_reported, tagging.outcome)
    for picture, found in tag_pictures(tagger, needed, batch_size):
        if isinstance(found, Exception):
            tagging.outcome.fail(picture, reason_of(found))
            continue
        line = tag_line(tagger.tags, found, rules)
        if is_reported:
            tagging.report[str(picture)] = {"tags": line, "probabilities": _probabilities(tagger, found)}
        try:
            word = write_caption(caption_path(picture, writing.extension), line, writing)
        except (InputError, OSError) as error:
            tagging.outcome.fail(picture, reason_of(error))
            continue
        tagging.outcome.count(word)
        if word != "kept":
            tagging.frequencies.update(line)
    return tagging


def write_caption(path: Path, line: Sequence[str], writing: Writing) -> str:
    """Puts a tag line into a caption file as the mode says; returns the word to count it by.

    Raises InputError where the caption that is there is not UTF-8.
    """
    if keeps(path, writing.mode):
        return "kept"
    old = None if writing.mode == "overwrite" else read_sidecar(path)
    text = merged(old, writing.separator.join(line), writing.mode, writing.separator)
    if writing.trigger_word:
        text = merged(text, writing.trigger_word, "prepend", writing.separator)
    write_sidecar(path, text)
    return "written" if line else "written without a tag, as none was probable enough"


def write_report(path: Path, tagging: Tagging) -> None:
    """All pictures with their tags and probabilities as JSON, whole or not at all."""
    content = json.dumps(tagging.report, indent=1, ensure_ascii=False).encode(errors="backslashreplace")
    write_atomically(path, lambda unfinished: unfinished.write_bytes(content))


def frequency_table(frequencies: Counter[str]) -> list[str]:
    """A line for each tag, the most frequent first."""
    if not frequencies:
        return []
    width = len(str(max(frequencies.values())))
    return [f"{number:>{width}}  {tag}" for tag, number in frequencies.most_common()]


def _needing_tags(pictures: Sequence[Path], writing: Writing, is_reported: bool, outcome: Outcome) -> list[Path]:
    """The pictures that the model must see; the others are counted."""
    owners: dict[Path, Path] = {}
    needed = []
    for picture in pictures:
        path = caption_path(picture, writing.extension)
        owner = owners.setdefault(path, picture)
        if owner is not picture:
            outcome.fail(picture, f"{owner.name} has the same caption file, {path.name}; rename one of them")
            continue
        try:
            if keeps(path, writing.mode) and not is_reported:
                outcome.count("kept")
            else:
                needed.append(picture)
        except InputError as error:
            outcome.fail(picture, reason_of(error))
    return needed


def _probabilities(tagger: Tagger, found: Pixels) -> dict[str, float]:
    """What the model holds to be at all likely, the most probable first."""
    order = found.argsort(kind="stable")[::-1]
    likely = [number for number in order if found[number] >= WORTH_KEEPING]
    return {tagger.tags[number].name: round(float(found[number]), 4) for number in likely}
