"""Edits of captions: one function for each edit of a list of tags, and the order in which they are made."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from library.prepare.tags import escape_brackets, join_tags, split_tags, unescape_brackets, with_spaces

Tags = list[str]
Step = Callable[[Tags], Tags]
Rule = tuple[re.Pattern[str], str]  # what is looked for, and what stands there afterwards

SORTS = ("alphabetical", "frequency")
ORDER = (
    "Edits are made in this order, whatever the order on the command line: set, set_empty, text_regex, "
    "underscores_to_spaces, unescape_brackets, replace, replace_regex, remove, remove_regex, keep_only, "
    "deduplicate, prune_overlapping; now the tags of all captions are counted; prune_common, sort, add_front, "
    "add_end, add at a position, escape_brackets."
)


@dataclass(frozen=True)
class Edits:
    """What is done to a caption, in the order of ORDER; fields as they are here do nothing.

    `trigger` are tags that no pruning removes and `keep_first` is how many tags at the front of each caption are
    neither pruned nor sorted. `prune_common` is a part of all pictures, above 0 up to 1. `position` counts from 1.
    """

    set_all: str | None = None
    set_empty: str | None = None
    text_regex: Sequence[Rule] = ()
    clean: bool = False
    underscores_to_spaces: bool = False
    unescape_brackets: bool = False
    replace: Mapping[str, Tags] = field(default_factory=dict)
    replace_regex: Sequence[Rule] = ()
    remove: Collection[str] = ()
    remove_regex: Sequence[re.Pattern[str]] = ()
    keep_only: Collection[str] = ()
    deduplicate: bool = False
    prune_overlapping: bool = False
    prune_common: float | None = None
    sort: str | None = None
    add_front: Sequence[str] = ()
    add_end: Sequence[str] = ()
    add: Sequence[str] = ()
    position: int = 1
    escape_brackets: bool = False
    keep_first: int = 0
    trigger: Collection[str] = ()


def edit_text(text: str | None, edits: Edits) -> str | None:
    """A whole caption after the edits that do not look at tags; None stands for no caption at all."""
    if edits.set_all is not None:
        text = edits.set_all
    elif not text and edits.set_empty is not None:
        text = edits.set_empty
    if text is None:
        return None
    for pattern, new in edits.text_regex:
        text = pattern.sub(new, text)
    return text.strip()


def edit_tags(text: str, steps: Sequence[Step], separator: str = ",") -> str:
    """A caption with `steps` done to the tags of each of its lines, which are captions to choose from."""
    if not steps:
        return text
    lines = []
    for line in text.splitlines() or [""]:
        tags = split_tags(line, separator)
        for step in steps:
            tags = step(tags)
        lines.append(join_tags(tags, separator))
    return "\n".join(line for line in lines if line)


def early_steps(edits: Edits, separator: str = ",") -> list[Step]:
    """The edits before the tags are counted."""
    kept, trigger = edits.keep_first, frozenset(edits.trigger)
    table: list[tuple[object, Step]] = [
        (edits.clean, list),
        (edits.underscores_to_spaces, partial(spell, spelling=with_spaces)),
        (edits.unescape_brackets, partial(spell, spelling=unescape_brackets)),
        (edits.replace, partial(replace, new=edits.replace)),
        (edits.replace_regex, partial(replace_regex, rules=edits.replace_regex, separator=separator)),
        (edits.remove, partial(remove, unwanted=frozenset(edits.remove))),
        (edits.remove_regex, partial(remove_regex, patterns=edits.remove_regex)),
        (edits.keep_only, partial(keep_only, wanted=frozenset(edits.keep_only))),
        (edits.deduplicate, deduplicate),
        (edits.prune_overlapping, partial(prune_overlapping, keep_first=kept, trigger=trigger)),
    ]
    return [step for asked, step in table if asked]


def late_steps(edits: Edits, counts: Mapping[str, int], common: Collection[str]) -> list[Step]:
    """The edits that look at all captions, and what comes after them.

    Args:
        edits: what is asked for
        counts: in how many captions each tag is
        common: tags that `prune_common` removes; see `common_tags`
    """
    kept = edits.keep_first
    table: list[tuple[object, Step]] = [
        (edits.prune_common, partial(prune_common, common=frozenset(common), keep_first=kept)),
        (edits.sort == "alphabetical", partial(sort_alphabetically, keep_first=kept)),
        (edits.sort == "frequency", partial(sort_by_frequency, counts=counts, keep_first=kept)),
        (edits.add_front, partial(add_front, new=edits.add_front)),
        (edits.add_end, partial(add_end, new=edits.add_end)),
        (edits.add, partial(add_at, new=edits.add, position=edits.position)),
        (edits.escape_brackets, partial(spell, spelling=escape_brackets)),
    ]
    return [step for asked, step in table if asked]


def common_tags(edits: Edits, counts: Mapping[str, int], pictures: int) -> set[str]:
    """The tags in at least the part `prune_common` of all pictures, without the trigger and what is added anyway."""
    if edits.prune_common is None:
        return set()
    safe = {*edits.trigger, *edits.add_front, *edits.add_end, *edits.add}
    least = edits.prune_common * pictures - 1e-9  # 0.7 * 10 is a little more than 7
    return {tag for tag, count in counts.items() if count >= least and tag not in safe}


def spell(tags: Tags, spelling: Callable[[str], str]) -> Tags:
    """Every tag in another spelling; those of which nothing is left are gone."""
    return [tag for tag in map(spelling, tags) if tag]


def replace(tags: Tags, new: Mapping[str, Tags]) -> Tags:
    """Whole tags replaced by others, all at once, so that two can change places."""
    return _changed(tags, [new.get(tag, [tag]) for tag in tags])


def replace_regex(tags: Tags, rules: Sequence[Rule], separator: str = ",") -> Tags:
    """Parts of tags replaced wherever a pattern is found, one rule after the other."""
    for pattern, new in rules:
        tags = _changed(tags, [split_tags(pattern.sub(new, tag), separator) for tag in tags])
    return tags


def remove(tags: Tags, unwanted: Collection[str]) -> Tags:
    """The tags without those."""
    return [tag for tag in tags if tag not in unwanted]


def remove_regex(tags: Tags, patterns: Sequence[re.Pattern[str]]) -> Tags:
    """The tags in which none of the patterns is found."""
    return [tag for tag in tags if not any(pattern.search(tag) for pattern in patterns)]


def keep_only(tags: Tags, wanted: Collection[str]) -> Tags:
    """The tags that are wanted, in the order they have."""
    return [tag for tag in tags if tag in wanted]


def deduplicate(tags: Tags) -> Tags:
    """Each tag once, where it stands first."""
    return list(dict.fromkeys(tags))


def prune_overlapping(tags: Tags, keep_first: int = 0, trigger: Collection[str] = ()) -> Tags:
    """Without tags whose words, in a row, are a part of another tag's: "long hair" beside "very long hair"."""
    words = [f" {' '.join(tag.lower().replace('_', ' ').split())} " for tag in tags]
    is_part = [any(own != other and own in other for other in words) for own in words]
    return [
        tag for place, tag in enumerate(tags) if place < keep_first or tag in trigger or not is_part[place]
    ]


def prune_common(tags: Tags, common: Collection[str], keep_first: int = 0) -> Tags:
    """Without the tags that nearly all pictures have, so that what they mean binds to the trigger instead."""
    return [tag for place, tag in enumerate(tags) if place < keep_first or tag not in common]


def sort_alphabetically(tags: Tags, keep_first: int = 0) -> Tags:
    """By the alphabet behind the first `keep_first` tags, which stay."""
    return tags[:keep_first] + sorted(tags[keep_first:], key=lambda tag: (tag.lower(), tag))


def sort_by_frequency(tags: Tags, counts: Mapping[str, int], keep_first: int = 0) -> Tags:
    """The most frequent first, behind the first `keep_first` tags, which stay; equals by the alphabet."""
    rest = sorted(tags[keep_first:], key=lambda tag: (-counts.get(tag, 0), tag.lower(), tag))
    return tags[:keep_first] + rest


def add_front(tags: Tags, new: Sequence[str]) -> Tags:
    """With the new tags in front; those that are there already move."""
    return add_at(tags, new, 1)


def add_end(tags: Tags, new: Sequence[str]) -> Tags:
    """With the new tags at the end; those that are there already move."""
    return [*remove(tags, new), *deduplicate(list(new))]


def add_at(tags: Tags, new: Sequence[str], position: int) -> Tags:
    """With the first of the new tags as the `position`-th of all, from 1; those that are there already move."""
    rest = remove(tags, new)
    return [*rest[: position - 1], *deduplicate(list(new)), *rest[position - 1 :]]


def _changed(tags: Tags, new: Sequence[Tags]) -> Tags:
    """`new` tags for each of the old; one that was changed into what is there already does not come twice."""
    seen = {tag for tag, others in zip(tags, new, strict=True) if others == [tag]}
    result: Tags = []
    for tag, others in zip(tags, new, strict=True):
        fresh = others if others == [tag] else [other for other in deduplicate(others) if other not in seen]
        seen.update(fresh)
        result += fresh
    return result
