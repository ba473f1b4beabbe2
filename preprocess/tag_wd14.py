"""Tag a folder of pictures with a WD14 tagger: a caption file with tags beside every picture.

python preprocess/tag_wd14.py pictures --model demo/tagger --remove_underscore
python preprocess/tag_wd14.py pictures --model SmilingWolf/wd-vit-tagger-v3 --trigger_word "sks woman" --mode append
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.files import why_unwritable
from library.log import say
from library.prepare.sidecars import MODES, check_extension

if TYPE_CHECKING:
    from library.prepare.tag_line import TagRules

ABOUT = (
    "Tag a folder of pictures with a WD14 tagger, or any ONNX tagger that has a selected_tags.csv (or DeepDanbooru's "
    "tags.txt). Lists have commas between the tags; spaces and underscores mean the same in them, and a comma inside a "
    "tag is written \\,."
)
MODEL_HELP = "folder with model.onnx and its list of tags, or an id on the Hugging Face hub"
MODE_HELP = "what becomes of captions that are there: kept, replaced, or joined with the tags, each tag once"
JSON_HELP = "a file for the probabilities of all pictures (from 0.01 on), those with kept captions too"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings of the command line; those that sd-scripts' tagger has too are called the same."""
    parser = argument_parser(ABOUT)
    add = parser.add_argument
    add("input", type=Path, help="folder of pictures")
    add("--model", required=True, help=MODEL_HELP)
    add("--recursive", action="store_true", help="pictures of the folders inside it too")
    add("--caption_extension", default=".txt", help="ending of the caption files")
    add("--mode", choices=MODES, default="skip", help=MODE_HELP)
    add("--batch_size", type=int, default=1, help="pictures that go through the model at a time")
    add("--device", choices=("cpu", "cuda"), help="where the model runs; by default a GPU if onnxruntime has one")
    add("--output_json", type=Path, help=JSON_HELP)
    add("--frequency_tags", action="store_true", help="say how often each tag was given")
    which = parser.add_argument_group("which tags")
    limits = which.add_mutually_exclusive_group()
    limits.add_argument("--thresh", type=float, default=0.35, help="probability from which on a tag is given")
    limits.add_argument("--mcut", action="store_true", help="find a threshold for each picture by the widest gap")
    which.add_argument("--general_threshold", type=float, help="threshold of general tags; by default --thresh")
    which.add_argument("--character_threshold", type=float, help="threshold of characters; by default --thresh")
    which.add_argument("--undesired_tags", default="", help="tags that are never given")
    ratings = which.add_mutually_exclusive_group()
    ratings.add_argument("--use_rating_tags", action="store_true", help="the best rating as the first tag")
    ratings.add_argument("--use_rating_tags_as_last_tag", action="store_true", help="the best rating as the last tag")
    add = parser.add_argument_group("how they are written").add_argument
    add("--trigger_word", default="", help="words at the very front of every caption")
    add("--remove_underscore", action="store_true", help="spaces for underscores, but not in faces such as ^_^")
    add("--tag_replacement", default="", help="other names for tags: old,new;old,new")
    add("--character_tag_expand", action="store_true", help="name_(series) becomes name, series")
    add("--escape_brackets", action="store_true", help="\\( and \\) for brackets, which are weights to web UIs")
    add("--character_tags_first", action="store_true", help="characters before the other tags")
    add("--always_first_tags", default="", help="tags that go to the front if they are given: solo,1girl")
    add("--sort_by_score", action="store_true", help="the most probable tags first, not the model's order")
    add("--caption_separator", default=", ", help="what stands between the tags")
    return parser.parse_args(argv)


def check(settings: argparse.Namespace) -> None:
    """InputError naming every setting that is out of its range or does not go with the others."""
    thresholds = {name: getattr(settings, name) for name in ("thresh", "general_threshold", "character_threshold")}
    wrong = [
        f"--{name} is {value:g}; it must be a probability, from 0 to 1."
        for name, value in thresholds.items()
        if value is not None and not 0 <= value <= 1
    ]
    if settings.mcut and (settings.general_threshold, settings.character_threshold) != (None, None):
        wrong.append("--mcut finds the thresholds by itself; leave --general_threshold and --character_threshold out.")
    if settings.batch_size < 1:
        wrong.append(f"--batch_size is {settings.batch_size}; it must be 1 or more.")
    if not settings.caption_separator.strip(" "):
        wrong.append("--caption_separator has only blanks; tags of several words could not be told apart.")
    if settings.output_json:
        path = settings.output_json
        if os.path.isdir(path) or why_unwritable(path.parent if os.path.exists(path) else path):
            wrong.append(f"--output_json {settings.output_json} cannot be written; name a file in a folder of yours.")
    if wrong:
        raise InputError(*wrong)


def rules_of(settings: argparse.Namespace) -> "TagRules":
    """How the tag lines are made."""
    from library.prepare.tag_line import TagRules, read_names, read_replacements

    general, character = settings.general_threshold, settings.character_threshold
    same = ("mcut", "sort_by_score", "character_tags_first", "character_tag_expand", "remove_underscore")
    first, last = settings.use_rating_tags, settings.use_rating_tags_as_last_tag
    return TagRules(
        general_threshold=settings.thresh if general is None else general,
        character_threshold=settings.thresh if character is None else character,
        rating="first" if first else "last" if last else None,
        always_first=read_names(settings.always_first_tags),
        replacements=read_replacements(settings.tag_replacement),
        undesired=frozenset(read_names(settings.undesired_tags)),
        escape_brackets=settings.escape_brackets,
        **{name: getattr(settings, name) for name in same},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Check everything, open the model, tag the pictures, and say what was done."""
    settings = parse_arguments(argv)
    check(settings)
    ending = check_extension(settings.caption_extension)
    rules = rules_of(settings)

    from library.prepare.tagger import open_tagger
    from library.prepare.tagging import Writing, frequency_table, tag_folder, write_report
    from library.prepare.walk import find_pictures, finish

    pictures = find_pictures(settings.input, settings.recursive)
    tagger = open_tagger(settings.model, settings.device)
    writing = Writing(ending, settings.mode, settings.caption_separator, settings.trigger_word.strip())
    reported = settings.output_json is not None
    tagging = tag_folder(tagger, pictures, rules, writing, settings.batch_size, reported)
    if tagging.report:
        write_report(settings.output_json, tagging)
    if settings.frequency_tags:
        say("\n".join(["how often each tag was given:", *frequency_table(tagging.frequencies)]))
    return finish(tagging.outcome, "captions")


if __name__ == "__main__":
    run_program(main)
