"""The options of preprocess/edit_captions.py: their sentences, and the edits and the selection made of them."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from library.errors import InputError
from library.prepare.edits import SORTS, Edits, Rule
from library.prepare.selection import Selection
from library.prepare.tags import split_tags

ARROW = "=>"
PLACED = ("add_front", "add_end", "add", "remove", "keep_only")
SPELLING = ("clean", "underscores_to_spaces", "unescape_brackets", "escape_brackets", "deduplicate")
WHOLE = ("set", "set_empty", "text_regex")
PRUNING = ("prune_overlapping", "prune_common")
EDITS = (*WHOLE, *SPELLING, "replace", "replace_regex", *PLACED, "remove_regex", *PRUNING, "sort")
TABLES = ("table", "cooccurrence", "json")
TAG_FILTERS = ("with", "with_any", "without")
FILTERS = (*TAG_FILTERS, "match", "only_empty")

# An option -> those of which it needs one, to have a meaning.
NEEDS = {
    "add": ("position",),
    "position": ("add",),
    "keep_first": ("sort", *PRUNING),
    "trigger": PRUNING,
    "dry_run": (*EDITS, "undo"),
    "force": ("undo",),
    "keep_changed": ("undo",),
    "top": TABLES,
}
# Options that contradict each other.
APART = (("set", "set_empty"), ("escape_brackets", "unescape_brackets"), ("force", "keep_changed"))
TOP = 30  # rows of a table
LEAST = {"position": 1, "keep_first": 0, "top": 0}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Puts all options into a parser, in groups."""
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="the folder of pictures")
    add("--recursive", action="store_true", help="look into the folders inside it too")
    add("--caption_extension", default=".txt", help="the ending of caption files")
    add("--separator", default=",", help="what stands between tags, in captions and in the lists given here")
    add("--dry_run", action="store_true", help="show what an edit or --undo would change, and write nothing")
    _add_text_options(parser.add_argument_group("edits of whole captions"))
    _add_tag_options(parser.add_argument_group("edits of tags", "Blanks around tags and empty tags go as well."))
    _add_filters(parser.add_argument_group("filters", "Captions are edited or counted if all of these hold."))
    tables = parser.add_argument_group("tables").add_argument
    tables("--table", action="store_true", help="show in how many captions each tag is")
    what = "show which tags occur with TAG, or without a TAG, which two occur together most often"
    tables("--cooccurrence", metavar="TAG", nargs="?", const="", help=what)
    tables("--top", metavar="N", type=int, help=f"rows of each table, {TOP} if not given; 0 for all")
    tables("--json", metavar="FILE", type=Path, help="write both tables, all tags and the top pairs, into this file")
    back = parser.add_argument_group("undo").add_argument
    back("--undo", action="store_true", help="take the last edit of INPUT back; again, the one before it")
    back("--force", action="store_true", help="undo captions too that were changed after the edit")
    back("--keep_changed", action="store_true", help="leave captions that were changed after the edit, undo the rest")


def _add_text_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--set", metavar="TEXT", help="this caption for every picture, whether it has one or not")
    add("--set_empty", metavar="TEXT", help="this caption where there is none or an empty one")
    rule = "replace what PATTERN finds in the whole caption, for sentences; may be given several times"
    add("--text_regex", metavar=f"PATTERN{ARROW}NEW", action="append", default=[], help=rule)


def _add_tag_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    several: dict[str, Any] = {"action": "append", "default": []}
    add("--clean", action="store_true", help="only take away blanks around tags and empty tags")
    add("--underscores_to_spaces", action="store_true", help="long_hair becomes long hair; faces as ^_^ stay")
    add("--unescape_brackets", action="store_true", help=r"\( and \) become ( and )")
    add("--escape_brackets", action="store_true", help=r"( and ) become \( and \), those of weights too")
    add("--replace", metavar="OLD=NEW", help=f"whole tags; OLD{ARROW}NEW where a tag has = in it", **several)
    add("--replace_regex", metavar=f"PATTERN{ARROW}NEW", help="what PATTERN finds within tags", **several)
    add("--remove", metavar="TAGS", help="take these tags out", **several)
    add("--remove_regex", metavar="PATTERN", help="take tags out in which PATTERN is found", **several)
    add("--keep_only", metavar="TAGS", help="take all other tags out", **several)
    add("--deduplicate", action="store_true", help="keep each tag only where it stands first")
    add("--prune_overlapping", action="store_true", help="take long hair out where very long hair is there")
    common = "take tags out that at least this part of all pictures have (0.9), so that they bind to the trigger"
    add("--prune_common", metavar="PART", type=float, help=common)
    add("--trigger", metavar="TAGS", help="tags that no pruning takes out", **several)
    add("--sort", choices=SORTS, help="order the tags")
    add("--keep_first", metavar="N", type=int, help="the first N tags are not sorted and not pruned")
    add("--add_front", metavar="TAGS", help="put these in front; where they are there already, they move", **several)
    add("--add_end", metavar="TAGS", help="put these at the end; where they are there already, they move", **several)
    add("--add", metavar="TAGS", help="put these at --position; where they are there already, they move", **several)
    add("--position", metavar="N", type=int, help="--add makes its tag the N-th; 1 is the first")


def _add_filters(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    several: dict[str, Any] = {"action": "append", "default": []}
    add("--with", metavar="TAGS", help="captions that have all of these", **several)
    add("--with_any", metavar="TAGS", help="captions that have at least one of these", **several)
    add("--without", metavar="TAGS", help="captions that have none of these", **several)
    add("--match", metavar="PATTERN", help="captions in which PATTERN is found")
    add("--only_empty", action="store_true", help="captions that are missing or empty")


def edits_from(settings: argparse.Namespace) -> Edits:
    """The edits that are asked for; raises InputError for settings that are wrong or do not go together."""
    wrong = [*_complaints(settings)]
    if wrong:
        raise InputError.of(wrong)
    given, separator = vars(settings), settings.separator
    same: dict[str, Any] = {name: given[name] for name in SPELLING}
    same |= {name: _tags(given[name], separator) for name in PLACED}
    return Edits(
        set_all=settings.set,
        set_empty=settings.set_empty,
        text_regex=[read_rule("text_regex", text) for text in settings.text_regex],
        replace=read_replacements(settings.replace, separator),
        replace_regex=[read_rule("replace_regex", text) for text in settings.replace_regex],
        remove_regex=[read_pattern("remove_regex", text) for text in settings.remove_regex],
        prune_overlapping=settings.prune_overlapping,
        prune_common=settings.prune_common,
        sort=settings.sort,
        position=settings.position or 1,
        keep_first=settings.keep_first or 0,
        trigger=_tags(settings.trigger, separator),
        **same,
    )


def selection_from(settings: argparse.Namespace) -> Selection:
    """Which captions are meant; raises InputError where the pattern is none."""
    all_of, any_of, none_of = (_tags(vars(settings)[name], settings.separator) for name in TAG_FILTERS)
    pattern = None if settings.match is None else read_pattern("match", settings.match)
    return Selection(all_of, any_of, none_of, pattern, settings.only_empty)


def read_rule(option: str, text: str) -> Rule:
    """A pattern and what replaces it, from "pattern=>new"; raises InputError where it is neither."""
    start, arrow, new = text.partition(ARROW)
    if not arrow or not start:
        raise InputError(f"--{option} '{text}' must be 'pattern{ARROW}new', without blanks around {ARROW}.")
    pattern = read_pattern(option, start)
    try:
        pattern.sub(new, "")
    except (re.error, IndexError) as error:
        raise InputError(f"--{option}: '{new}' cannot replace what '{start}' finds ({error}).") from error
    return pattern, new


def read_pattern(option: str, text: str) -> re.Pattern[str]:
    """A regular expression; raises InputError where it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise InputError(f"--{option}: '{text}' is no regular expression ({error}).") from error


def read_replacements(texts: Sequence[str], separator: str = ",") -> dict[str, list[str]]:
    """What stands for each old tag, from "old=new" or "old=>new"; raises InputError where that is not clear."""
    found: dict[str, list[str]] = {}
    for text in texts:
        start, mark, end = text.partition(ARROW if ARROW in text else "=")
        old, new = " ".join(start.split()), split_tags(end, separator)
        if not mark or not old:
            raise InputError(f"--replace '{text}' must be 'old=new', or 'old{ARROW}new' where a tag has = in it.")
        if found.setdefault(old, new) != new:
            raise InputError(f"--replace names '{old}' twice with different new tags; leave one of them out.")
    return found


def _complaints(settings: argparse.Namespace) -> list[str]:
    asked = {name for name, value in vars(settings).items() if not (value is None or value is False or value == [])}
    modes = [[name for name in names if name in asked] for names in (EDITS, TABLES, ("undo",))]
    wrong = []
    if not any(modes):
        wrong.append("there is nothing to do; give an edit such as --add_front TAGS, --table or --undo.")
    if sum(map(bool, modes)) > 1:
        first = " and ".join(f"--{names[0]}" for names in modes if names)
        wrong.append(f"{first} do not go together; edits, tables and --undo are runs of their own.")
    if "undo" in asked and (filters := asked.intersection(FILTERS)):
        wrong.append(f"--undo takes a whole edit back; leave --{min(filters)} out.")
    for name, needs in NEEDS.items():
        if name in asked and asked.isdisjoint(needs):
            wrong.append(f"--{name} does nothing without {_either(needs)}.")
    wrong += [f"--{one} and --{other} contradict each other." for one, other in APART if {one, other} <= asked]
    return wrong + _wrong_values(settings, asked)


def _wrong_values(settings: argparse.Namespace, asked: set[str]) -> list[str]:
    given, separator = vars(settings), settings.separator
    if not separator or "\n" in separator:
        return ["--separator must be a mark such as , or ;, not empty and not a line's end."]
    low = [(name, least) for name, least in LEAST.items() if name in asked and given[name] < least]
    wrong = [f"--{name} {given[name]} must be {least} or more." for name, least in low]
    part = settings.prune_common
    if part is not None and not 0 < part <= 1:
        wrong.append(f"--prune_common {part:g} must be a part of all pictures, above 0 and up to 1, such as 0.9.")
    lists = (*PLACED, "trigger", *TAG_FILTERS)
    return wrong + [f"--{name} names no tag." for name in lists if name in asked and not _tags(given[name], separator)]


def _tags(texts: Sequence[str], separator: str) -> list[str]:
    return [tag for text in texts for tag in split_tags(text, separator)]


def _either(names: Sequence[str]) -> str:
    shown = [f"--{name}" for name in names]
    return "an edit or --undo" if len(shown) > 4 else " or ".join(shown)
