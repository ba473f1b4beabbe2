"""Editing the captions of a folder: read, planned as a whole, shown as a diff, written, and undone."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os.path import realpath
from pathlib import Path

from library.errors import InputError
from library.prepare import journal
from library.prepare.edits import Edits, common_tags, early_steps, edit_tags, edit_text, late_steps
from library.prepare.journal import Change
from library.prepare.selection import Selection
from library.prepare.sidecars import caption_path
from library.prepare.tag_table import count_tags, tags_of
from library.prepare.tags import split_tags
from library.prepare.walk import Outcome, work_through

RED, GREEN, BOLD, PLAIN = "\033[31m", "\033[32m", "\033[1m", "\033[0m"
NO_CAPTION = "without a caption (--set_empty writes one)"
NAMED = 5  # how many files a sentence names
WRITERS = 4  # threads; each waits for the disk, which takes several files in the time of one


@dataclass(frozen=True)
class Caption:
    """A caption file: its bytes and its text without blanks around it; None stands for no file."""

    path: Path
    raw: bytes | None
    text: str | None


@dataclass(frozen=True)
class Plan:
    """What is to be written; the common tags that go with how many pictures have them; and what stays."""

    changes: list[Change]
    pruned: dict[str, int]
    counts: dict[str, int]


def read_captions(pictures: Iterable[Path], extension: str, outcome: Outcome) -> list[Caption]:
    """The captions of pictures, each file once; those that cannot be read are noted in `outcome`."""
    files = {realpath(path): path for path in (caption_path(picture, extension) for picture in pictures)}
    captions = []
    for path, result in work_through([*files.values()], read_caption, "reading captions"):
        if isinstance(result, Caption):
            captions.append(result)
        else:
            outcome.fail(path, _reason(result))
    return captions


def read_caption(path: Path) -> Caption:
    """One caption; raises InputError where it is not UTF-8, and OSError where it cannot be read."""
    raw = journal.read_bytes(path)
    try:
        return Caption(path, raw, None if raw is None else raw.decode("utf-8-sig").strip())
    except UnicodeDecodeError as error:
        raise InputError("the caption is not UTF-8 text; save it as UTF-8") from error


def plan_edits(captions: Sequence[Caption], edits: Edits, chosen: Selection, separator: str) -> Plan:
    """What the edits make of captions, given those of all pictures, since tags are counted in all of them."""
    is_chosen = [chosen.takes(caption.text, separator) for caption in captions]
    early = early_steps(edits, separator)
    texts = []
    for caption, is_edited in zip(captions, is_chosen, strict=True):
        text = edit_text(caption.text, edits) if is_edited else caption.text
        texts.append(edit_tags(text, early, separator) if is_edited and text is not None else text)
    counts = count_tags(tags_of(text, separator) for text in texts)
    common = common_tags(edits, counts, len(captions))
    late = late_steps(edits, counts, common)
    changes: list[Change] = []
    words = {"unchanged": 0, "not chosen": 0, NO_CAPTION: 0}
    for caption, is_edited, text in zip(captions, is_chosen, texts, strict=True):
        new = edit_tags(text, late, separator) if is_edited and text is not None else text
        if new is not None and new != caption.text:
            changes.append(Change(caption.path, caption.raw, f"{new}\n".encode()))
        else:
            words[_why_unchanged(is_edited, new)] += 1
    gone = _pruned(common, edits.keep_first, [text for text, go in zip(texts, is_chosen, strict=True) if go], separator)
    return Plan(changes, {tag: counts[tag] for tag in sorted(gone)}, words)


def make_changes(changes: Sequence[Change], description: str, outcome: Outcome) -> list[Change]:
    """Writes the files; returns the changes that were made, and notes in `outcome` those that failed."""
    made = []
    for change, result in work_through(changes, journal.make, description, WRITERS, threads=True):
        if isinstance(result, Exception):
            outcome.fail(change.path, _reason(result))
        else:
            made.append(change)
    return made


def without_foreign(changes: Sequence[Change], foreign: Collection[Path], force: bool, keep: bool) -> list[Change]:
    """The changes of an undo that are to be made, where some files were changed by somebody else since the edit.

    Args:
        changes: those that undo the whole edit
        foreign: the files changed since
        force: whether they are overwritten all the same
        keep: whether they are left as they are

    Raises InputError that names them where neither is said.
    """
    if foreign and not (force or keep):
        sentences = [f"{path} was changed after the edit." for path in foreign]
        remedy = "nothing was undone; --force overwrites what was changed, --keep_changed undoes only the rest."
        raise InputError.of([*sentences, remedy])
    return [change for change in changes if force or change.path not in foreign]


def diff_lines(change: Change, folder: Path, separator: str, coloured: bool) -> Iterator[str]:
    """A change as a person reads it: the file's name, the lines that go and those that come.

    With colours, only the tags that the other side has not are coloured.
    """
    before, after = _text(change.before), _text(change.after)
    name = change.path.relative_to(folder).as_posix()
    yield f"{BOLD}{name}{PLAIN}" if coloured else name
    for sign, text, other, colour in (("-", before, after, RED), ("+", after, before, GREEN)):
        same = tags_of(other, separator)
        for line in ["(no caption)"] if text is None else text.splitlines() or ["(empty)"]:
            yield f"{sign} {_painted(line, same, separator, colour) if coloured else line}"


def emptied(changes: Iterable[Change]) -> list[Path]:
    """The captions that had words and have none any more."""
    return [change.path for change in changes if _text(change.before) and _text(change.after) == ""]


def uncaptioned(captions: Iterable[Caption], changes: Iterable[Change]) -> list[Path]:
    """The caption files that are not there and that these changes do not make."""
    made = {change.path for change in changes}
    return [caption.path for caption in captions if caption.text is None and caption.path not in made]


def names_of(paths: Sequence[Path]) -> str:
    """The names of the first files, and how many more there are."""
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(path.name for path in paths[:NAMED]) + more


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _why_unchanged(is_edited: bool, text: str | None) -> str:
    if not is_edited:
        return "not chosen"
    return NO_CAPTION if text is None else "unchanged"


def _pruned(common: Collection[str], keep_first: int, texts: Iterable[str | None], separator: str) -> set[str]:
    """The common tags that at least one of these captions loses."""
    if not common:
        return set()
    lines = (line for text in texts for line in (text or "").splitlines())
    return {tag for line in lines for tag in split_tags(line, separator)[keep_first:] if tag in common}


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode("utf-8-sig", "replace").strip()


def _painted(line: str, same: Collection[str], separator: str, colour: str) -> str:
    """The line with every tag in colour that is not among `same`."""
    mark = separator.strip() or separator
    pieces = line.split(mark)
    return mark.join(piece if " ".join(piece.split()) in same else f"{colour}{piece}{PLAIN}" for piece in pieces)
