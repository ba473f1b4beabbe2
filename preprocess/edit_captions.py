"""Edit the captions of a folder of pictures: add, remove, replace, sort and prune tags, count them, and undo.

python preprocess/edit_captions.py pictures --add_front "sks" --remove "blurry, jpeg artifacts" --dry_run
python preprocess/edit_captions.py pictures --undo
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.files import write_atomically
from library.log import say
from library.prepare import editing, journal, tag_table
from library.prepare.edit_options import TOP, add_options, edits_from, selection_from
from library.prepare.edits import ORDER
from library.prepare.sidecars import check_extension
from library.prepare.walk import Outcome, find_pictures, finish

DESCRIPTION = (
    "Edit the captions of a folder of pictures. Only caption files are written, and before the first of them the "
    f"hidden folder {journal.FOLDER} in INPUT, from which --undo takes every edit back, one after the other."
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written."""
    parser = argument_parser(DESCRIPTION)
    parser.epilog = ORDER
    add_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Undoes, counts or edits, as asked."""
    settings = parse_arguments(argv)
    edits, chosen = edits_from(settings), selection_from(settings)
    if settings.undo:
        return undo(settings)
    extension = check_extension(settings.caption_extension)
    pictures = find_pictures(settings.input, settings.recursive)
    outcome = Outcome()
    captions = editing.read_captions(pictures, extension, outcome)
    if settings.table or settings.cooccurrence is not None or settings.json:
        texts = [caption.text for caption in captions if chosen.takes(caption.text, settings.separator)]
        return show_tables(settings, texts, outcome)
    plan = editing.plan_edits(captions, edits, chosen, settings.separator)
    for tag, count in plan.pruned.items():
        say(f"pruned as common: {tag} (in {count} of {len(captions)} captions)")
    if settings.dry_run:
        made = show_diff(settings, plan.changes)
    else:
        if plan.changes:
            journal.record(settings.input, plan.changes, shlex.join(sys.argv[1:] if argv is None else argv))
        made = editing.make_changes(plan.changes, "writing captions", outcome)
    if empty := editing.emptied(made):
        say(f"without words now: {editing.names_of(empty)}")
    for path in editing.uncaptioned(captions, plan.changes):
        say(f"no caption: {path}")
    counts = {"to be edited" if settings.dry_run else "edited": len(made)} | plan.counts
    return end(outcome, counts)


def undo(settings: argparse.Namespace) -> int:
    """Takes the last edit back; its journal goes once every caption is as it was."""
    entry = journal.last_entry(settings.input)
    changes, foreign = journal.way_back(entry)
    changes = editing.without_foreign(changes, foreign, settings.force, settings.keep_changed)
    say(f"undoing the edit of {entry.time}: {entry.command}")
    outcome = Outcome()
    made = show_diff(settings, changes) if settings.dry_run else editing.make_changes(changes, "undoing", outcome)
    if not settings.dry_run and not outcome.failed:
        entry.forget()
    word = "to be " if settings.dry_run else ""
    removed = sum(change.after is None for change in made)
    kept = 0 if settings.force else len(foreign)
    counts = {f"{word}restored": len(made) - removed, f"{word}removed": removed, "kept as changed since": kept}
    return end(outcome, counts)


def show_diff(settings: argparse.Namespace, changes: list[journal.Change]) -> list[journal.Change]:
    """Prints what would be written, in colours on a terminal."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for change in changes:
        for line in editing.diff_lines(change, settings.input, settings.separator, coloured):
            say(line)
    say("A dry run: nothing was written.")
    return changes


def show_tables(settings: argparse.Namespace, texts: list[str | None], outcome: Outcome) -> int:
    """Prints how often tags occur and which occur together, and writes both as JSON, as asked."""
    captions = [tag_table.tags_of(text, settings.separator) for text in texts]
    counts, tag = tag_table.count_tags(captions), settings.cooccurrence
    top = TOP if settings.top is None else settings.top
    rows = tag_table.ranked(counts)
    if settings.table:
        title = f"tag ({len(rows)} of them)"
        say("\n".join(tag_table.table_lines(title, rows[: top or None], len(captions))))
    content: dict[str, object] = {"captions": len(captions)}
    content["tags"] = tag_table.table_json("tag", rows, len(captions))
    if tag:
        beside = tag_table.ranked(tag_table.count_beside(captions, tag), top)
        say("\n".join(tag_table.table_lines(f"tag, in the {counts[tag]} captions with {tag}", beside, counts[tag])))
        content |= {"with": tag, "together": tag_table.table_json("tag", beside, counts[tag])}
    elif tag is not None or settings.json:
        pairs = tag_table.ranked(tag_table.count_pairs(captions), top)
        if tag is not None:
            say("\n".join(tag_table.table_lines("pair of tags", pairs, len(captions))))
        content["pairs"] = tag_table.table_json("pair", pairs, len(captions))
    if settings.json:
        write_json(settings.json, content)
    missing = sum(text is None for text in texts)
    return end(outcome, {"counted": len(texts) - missing, "without a caption": missing})


def write_json(path: Path, content: dict[str, object]) -> None:
    """Writes a file whole or not at all; raises InputError where that cannot be done."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    try:
        write_atomically(path, lambda unfinished: unfinished.write_text(f"{text}\n", encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--json {path} cannot be written: {error.strerror}.") from error


def end(outcome: Outcome, counts: dict[str, int]) -> int:
    """Says the counts that are not 0 and what failed; returns the exit status."""
    outcome.counts |= {word: count for word, count in counts.items() if count}
    return finish(outcome, "captions")


if __name__ == "__main__":
    run_program(main)
