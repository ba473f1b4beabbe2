"""From options to edits, and every wrong option answered with a sentence."""

import argparse
import re

import pytest

from library.cli import argument_parser
from library.errors import InputError
from library.prepare.edit_options import EDITS, FILTERS, TABLES, add_options, edits_from, selection_from
from library.prepare.edits import Edits
from library.prepare.selection import Selection

HELPERS = {"input", "help", "recursive", "caption_extension", "separator", "dry_run", "trigger", "keep_first"}
HELPERS |= {"position", "top", "undo", "force", "keep_changed"}


def parser() -> argparse.ArgumentParser:
    """A parser with all options."""
    made = argument_parser("A test.")
    add_options(made)
    return made


def parsed(*words: str) -> argparse.Namespace:
    """The settings of a command line."""
    return parser().parse_args(["in", *words])


def test_every_option_is_of_a_kind() -> None:
    names = {action.dest for action in parser()._actions}
    assert names == {*EDITS, *FILTERS, *TABLES} | HELPERS


def test_edits_as_asked() -> None:
    words = ["--add_front", "sks,  dog", "--add_front", "x", "--add", "y", "--position", "2", "--sort", "frequency"]
    words += ["--keep_first", "1", "--replace", "a b=c, d", "--replace", "=_==>closed eyes", "--set_empty", "z"]
    words += ["--prune_common", "0.9", "--trigger", "sks", "--remove_regex", "^a", "--deduplicate", "--clean"]
    assert edits_from(parsed(*words)) == Edits(
        set_empty="z",
        clean=True,
        replace={"a b": ["c", "d"], "=_=": ["closed eyes"]},
        replace_regex=[],
        text_regex=[],
        remove=[],
        remove_regex=[re.compile("^a")],
        keep_only=[],
        deduplicate=True,
        prune_common=0.9,
        sort="frequency",
        add_front=["sks", "dog", "x"],
        add_end=[],
        add=["y"],
        position=2,
        keep_first=1,
        trigger=["sks"],
    )


def test_the_separator_parts_lists_too() -> None:
    edits = edits_from(parsed("--separator", ";", "--remove", "a, b; c", "--replace", "x=y; z"))
    assert (edits.remove, edits.replace) == (["a, b", "c"], {"x": ["y", "z"]})


def test_selections_as_asked() -> None:
    words = ["--with", "a, b", "--with_any", "c", "--without", "d", "--match", "e", "--only_empty"]
    assert selection_from(parsed(*words)) == Selection(["a", "b"], ["c"], ["d"], re.compile("e"), True)


def test_rules_are_read_to_the_letter() -> None:
    edits = edits_from(parsed("--text_regex", r"(\d) dogs=>\1 cats => more"))
    assert edits.text_regex == [(re.compile(r"(\d) dogs"), r"\1 cats => more")]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("", "nothing to do"),
        ("--recursive --with a", "nothing to do"),
        ("--clean --undo", "--clean and --undo do not go together"),
        ("--clean --table", "do not go together"),
        ("--undo --with a", "leave --with out"),
        ("--add a", "--add does nothing without --position"),
        ("--clean --position 2", "--position does nothing without --add"),
        ("--clean --keep_first 2", "--keep_first does nothing without --sort or --prune"),
        ("--clean --trigger a", "--trigger does nothing without --prune"),
        ("--clean --force", "--force does nothing without --undo"),
        ("--clean --top 3", "--top does nothing without --table"),
        ("--table --dry_run", "--dry_run does nothing without an edit or --undo"),
        ("--undo --force --keep_changed", "--force and --keep_changed contradict"),
        ("--set a --set_empty b", "--set and --set_empty contradict"),
        ("--escape_brackets --unescape_brackets", "contradict"),
        ("--add a --position 0", "--position 0 must be 1 or more"),
        ("--table --top -1", "--top -1 must be 0 or more"),
        ("--prune_common 0", "--prune_common 0 must be a part"),
        ("--prune_common 1.5", "--prune_common 1.5 must be a part"),
        ("--prune_common nan", "--prune_common nan must be a part"),
        ("--remove ,", "--remove names no tag"),
        ("--table --with ,", "--with names no tag"),
        ("--clean --separator=", "--separator must be a mark"),
        ("--replace a", "--replace 'a' must be 'old=new'"),
        ("--replace =a", "must be 'old=new'"),
        ("--replace a=b --replace a=c", "--replace names 'a' twice"),
        ("--remove_regex (", r"--remove_regex: '\(' is no regular expression"),
        ("--replace_regex a", "--replace_regex 'a' must be 'pattern=>new'"),
        (r"--text_regex a=>\2", r"--text_regex: '\\2' cannot replace what 'a' finds"),
        (r"--text_regex a=>\g<b>", "cannot replace what 'a' finds"),
    ],
)
def test_wrong_options_are_refused(words: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        edits_from(parsed(*words.split()))


def test_a_wrong_pattern_of_a_filter_is_refused() -> None:
    with pytest.raises(InputError, match="--match"):
        selection_from(parsed("--clean", "--match", "["))


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(InputError) as caught:
        edits_from(parsed("--undo", "--remove", "a", "--position", "0", "--trigger", "b"))
    assert len(caught.value.sentences) == 4
