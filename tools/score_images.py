"""Score drawn pictures by open_clip: how alike they are to the training pictures, and to their prompts.

python tools/score_images.py output/sample --train pictures --model clip
python tools/score_images.py epoch_4 epoch_8 --by folder --train pictures --prompt "sks dog" --json scores.json
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program, wrong_output
from library.errors import InputError
from library.log import say
from library.scoring.places import USUAL, place_of
from library.scoring.told import told_of

if TYPE_CHECKING:
    from library.scoring.encoder import Encoder
    from library.scoring.scores import Score

STDOUT = "-"
EXAMPLE = "python tools/score_images.py output/sample --train pictures --model clip"
MODEL_HELP = (
    "an open_clip model: a folder with open_clip_config.json and weights, or a hub id, which is downloaded once"
)
BY_HELP = "what makes a group: the LoRAs, epoch or model that drew a picture, as it tells itself, or its folder"
PROMPT_HELP = "the prompt of pictures that tell theirs neither in their PNG parameters nor in a .txt file beside them"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Score drawn pictures against training pictures and prompts, by open_clip.", EXAMPLE)
    add = parser.add_argument
    add("pictures", type=Path, nargs="+", help="drawn pictures, or folders of them")
    add("--train", type=Path, help="the folder of the training pictures")
    add("--prompt", help=PROMPT_HELP)
    add("--model", default=USUAL, help=MODEL_HELP)
    add("--by", choices=("checkpoint", "folder"), default="checkpoint", help=BY_HELP)
    add("--recursive", action="store_true", help="look into the folders inside the given ones too")
    add("--device", help="where to compute, such as cpu or cuda; by default the GPU if there is one")
    add("--json", type=Path, nargs="?", const=Path(STDOUT), metavar="FILE", help="as JSON to a file, or printed")
    add("--overwrite", action="store_true", help="replace the JSON file if it is there")
    settings = parser.parse_args(argv)
    wrong = [f"{path}: there is no such picture or folder." for path in settings.pictures if not path.exists()]
    if settings.train and not settings.train.is_dir():
        wrong.append(f"--train {settings.train}: there is no such folder.")
    try:
        place_of(settings.model)
    except InputError as error:
        wrong += error.sentences
    if settings.json and str(settings.json) != STDOUT:
        wrong += wrong_output(settings.json, settings.overwrite, (".json",))
    if wrong:
        raise InputError.of(wrong)
    return settings


def found_in(paths: Iterable[Path], recursive: bool) -> list[Path]:
    """The pictures that are named, and those of the folders."""
    from library.prepare.walk import find_pictures

    found = [each for path in paths for each in (find_pictures(path, recursive) if path.is_dir() else [path])]
    return list(dict.fromkeys(found))


def encode(encoder: "Encoder", paths: Sequence[Path], what: str) -> tuple[dict[Path, Any], dict[Path, str]]:
    """A vector for each picture that can be read, and the reasons of the others."""
    from library.data.decoding import read_picture
    from library.prepare.walk import work_through

    vectors, failed = {}, {}
    for path, found in work_through(paths, lambda path: encoder.pictures([read_picture(path)])[0], what):
        if isinstance(found, ValueError):
            failed[path] = str(found)
        elif isinstance(found, Exception):
            raise found
        else:
            vectors[path] = found
    return vectors, failed


def parameters_of(path: Path) -> str | None:
    """The text "parameters" of a PNG, where it has one."""
    from PIL import Image

    with Image.open(path) as picture:
        text = picture.info.get("parameters")
    return text if isinstance(text, str) else None


def score(settings: argparse.Namespace) -> tuple[list["Score"], dict[Path, str], int]:
    """The score of each picture, those that could not be read, and how many training pictures there are."""
    import torch

    from library.device import pick_device
    from library.scoring.encoder import load_encoder
    from library.scoring.scores import Score, against_pictures

    drawn = found_in(settings.pictures, settings.recursive)
    examples = found_in([settings.train], settings.recursive) if settings.train else []
    encoder = load_encoder(settings.model, pick_device(settings.device))
    vectors, failed = encode(encoder, drawn, "drawn pictures")
    if not vectors:
        raise InputError.of(f"{path}: {reason}." for path, reason in failed.items())
    trained, unread = encode(encoder, examples, "training pictures") if examples else ({}, {})
    if examples and not trained:
        raise InputError(f"--train {settings.train}: none of its {len(examples)} pictures can be read.")
    told = {path: told_of(path, parameters_of(path), settings.prompt) for path in vectors}
    if not trained and not any(each.prompt for each in told.values()):
        raise InputError("there is nothing to compare with; give --train FOLDER, or --prompt TEXT.")
    likeness = dict.fromkeys(vectors, (None, None, None))
    if trained:
        all_drawn, all_trained = torch.stack(list(vectors.values())), torch.stack(list(trained.values()))
        likeness = dict(zip(vectors, against_pictures(all_drawn, all_trained, list(trained)), strict=True))
    prompts = list(dict.fromkeys(each.prompt for each in told.values() if each.prompt))
    words = dict(zip(prompts, encoder.texts(prompts), strict=True)) if prompts else {}
    scores = []
    for path, vector in vectors.items():
        prompt, group = told[path].prompt, told[path].checkpoint if settings.by == "checkpoint" else path.parent.name
        text = float(vector.double() @ words[prompt].double()) if prompt else None
        scores.append(Score(path, group or "", prompt, *likeness[path], text))
    return scores, failed | unread, len(trained)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side; all but the first stand to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = (
        (line[0].ljust(widths[0]), *(w.rjust(n) for w, n in zip(line[1:], widths[1:], strict=True))) for line in lines
    )
    return "\n".join("  ".join(words).rstrip() for words in aligned)


def shown(number: float | None) -> str:
    """A cosine, or a dash."""
    return "-" if number is None else f"{number:.4f}"


def write_report(
    settings: argparse.Namespace, scores: Sequence["Score"], failed: dict[Path, str], trained: int
) -> None:
    """Two tables on the screen, or the same as JSON."""
    from library.files import write_atomically
    from library.scoring.scores import summaries

    groups = summaries(scores)
    if settings.json:
        facts = {"model": settings.model, "training_pictures": trained, "checkpoints": list(map(asdict, groups))}
        facts |= {"pictures": list(map(asdict, scores)), "failed": {str(path): why for path, why in failed.items()}}
        text = json.dumps(facts, indent=2, ensure_ascii=False, default=str)
        if str(settings.json) == STDOUT:
            say(text)
            return
        write_atomically(settings.json, lambda unfinished: unfinished.write_text(text + "\n", encoding="utf-8"))
    heads = ("picture", "to training", "closest", "to prompt")
    say(table([heads, *((s.path.name, shown(s.image), shown(s.closest), shown(s.text)) for s in scores)]))
    say()
    lines = [(g.checkpoint, str(g.pictures), shown(g.image), shown(g.closest), shown(g.text)) for g in groups]
    say(table([(settings.by, "pictures", *heads[1:]), *lines]))
    if settings.json:
        say(f"written: {settings.json}")


def main() -> int:
    """Look at all pictures, and say how alike they are to what they should be."""
    settings = parse_arguments()
    scores, failed, trained = score(settings)
    write_report(settings, scores, failed, trained)
    for path, reason in failed.items():
        print(f"not read: {path}: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_program(main)
