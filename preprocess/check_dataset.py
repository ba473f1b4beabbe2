"""Examine a folder of pictures before training: what is broken, small, blurred, twice there, or captioned badly.

python preprocess/check_dataset.py pictures --html report.html
python preprocess/check_dataset.py pictures --resolution 1024 --train_batch_size 4 --trigger_word sks --json report.json
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.files import why_unwritable, write_atomically
from library.log import say
from library.prepare.sidecars import check_extension
from library.settings.convert import convert
from library.settings.fields import DEFAULTS, HINTS, RULES
from library.settings.tables import FLAT_NAMES, fit_bucket_range

if TYPE_CHECKING:
    from library.prepare.examined import Wish

DESCRIPTION = (
    "Examine a folder of pictures before training. Exit status 0: fit for training; 3: training would suffer; 2: wrong "
    "input. The pictures are left as they are."
)
# Settings of a folder, as training has them; and those of the whole run.
SUBSET_SETTINGS = (
    "resolution",
    "enable_bucket",
    "min_bucket_reso",
    "max_bucket_reso",
    "bucket_reso_steps",
    "bucket_no_upscale",
    "dataset_repeats",
    "caption_extension",
    "caption_separator",
    "caption_prefix",
    "caption_suffix",
    "enable_wildcard",
)
RUN_SETTINGS = ("train_batch_size", "max_token_length")
JSON_HELP = "write the whole report: status, findings with their pictures, and facts on each picture"
HTML_HELP = "write the report as one page with thumbnails, to be opened in a browser"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written, each checked by itself."""
    parser = argument_parser(DESCRIPTION)
    add = parser.add_argument
    add("input", metavar="INPUT", type=Path, help="folder of pictures, or of folders named N_class words")
    add("--recursive", action="store_true", help="look into the folders inside it too")
    add("--json", type=Path, metavar="FILE", help=JSON_HELP)
    add("--html", type=Path, metavar="FILE", help=HTML_HELP)
    add("--trigger_word", default="", help="the word or words that every caption should have")
    add("--processes", type=int, default=0, help="how many look at pictures; 0 stands for as many as help")
    group = parser.add_argument_group("settings of the training", "as train_network.py has them")
    for name in (*SUBSET_SETTINGS, *RUN_SETTINGS):
        is_switch: dict[str, Any] = {"nargs": "?", "const": True} if HINTS[name] is bool else {}
        read = partial(read_setting, name)
        group.add_argument(f"--{name}", type=read, default=DEFAULTS[name], help=RULES[name].help, **is_switch)
    return parser.parse_args(argv)


def read_setting(name: str, text: str) -> Any:
    """A training setting's value, refused with the sentence that training has for it."""
    try:
        return convert(name, HINTS[name], RULES[name], text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from error


def check(settings: argparse.Namespace) -> None:
    """InputError naming every setting that does not go with the others."""
    files = {"--json": settings.json, "--html": settings.html}
    wrong = [f"{name} {path}: no file can be written there." for name, path in files.items() if path and not fits(path)]
    if settings.json and settings.html and settings.json.absolute() == settings.html.absolute():
        wrong.append("--json and --html name the same file; give each its own.")
    if not 0 <= settings.processes <= 1024:
        wrong.append(f"--processes is {settings.processes}; it must be 0 to 1024.")
    if wrong:
        raise InputError(*wrong)


def fits(path: Path) -> bool:
    """Whether a file can be written in a folder that is there or can be made."""
    return not os.path.isdir(path) and not why_unwritable(path.parent if os.path.exists(path) else path)


def wish_of(settings: argparse.Namespace) -> "Wish":
    """What the pictures are to be trained with, as training would understand it."""
    from library.data.folders import Subset
    from library.prepare.examined import Wish

    flat = {name: own for own, name in FLAT_NAMES.items()}
    values = {flat.get(name, name): getattr(settings, name) for name in SUBSET_SETTINGS}
    values["caption_extension"] = check_extension(settings.caption_extension)
    span = (settings.min_bucket_reso, settings.max_bucket_reso)
    low, high = fit_bucket_range(*span, settings.bucket_reso_steps, settings.resolution)
    subset = Subset(settings.input, **values | {"min_bucket_reso": low, "max_bucket_reso": high})
    return Wish(subset, settings.train_batch_size, settings.max_token_length, settings.trigger_word.strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Examine the folder, say what was found, and write the reports that were asked for."""
    settings = parse_arguments(argv)
    check(settings)

    from library.prepare.doctor import as_json, diagnose, table

    wish = wish_of(settings)
    report = diagnose(settings.input, wish, settings.recursive, bool(settings.html), settings.processes)
    say(table(report))
    if settings.json:
        content = json.dumps(as_json(report), indent=1, ensure_ascii=False).encode(errors="backslashreplace")
        write_atomically(settings.json, lambda unfinished: unfinished.write_bytes(content))
    if settings.html:
        from library.prepare.page import page

        text = page(report).encode(errors="replace")
        write_atomically(settings.html, lambda unfinished: unfinished.write_bytes(text))
    if written := [str(path) for path in (settings.json, settings.html) if path]:
        say("written:", " and ".join(written))
    return report.status


if __name__ == "__main__":
    run_program(main)
