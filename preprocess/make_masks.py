"""Masks for masked training: from the pictures' transparency, from a model that finds subjects, or by words.

python preprocess/make_masks.py pictures --method rembg --model u2net.onnx --grow 10 --blur 5
python preprocess/make_masks.py pictures --method clipseg --prompt "a dog" --prompt "a leash" --min_value 0.1
python preprocess/make_masks.py pictures --method clipseg --prompt "a watermark" --mode subtract --grow 8

The mask of photo.jpg is photo-masklabel.png beside it, white where the picture is learned. Pictures stay as they are.
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
from library.prepare.masks import MODES, Recipe
from library.prepare.saliency_kinds import KINDS
from library.prepare.walk import find_pictures, finish

if TYPE_CHECKING:
    from library.prepare.segmenters import Segmenter

METHODS = ("alpha", "rembg", "clipseg")
CLIPSEG, CLIPSEG_THRESHOLD, BATCH_SIZE = "CIDAS/clipseg-rd64-refined", 0.3, 4

METHOD_HELP = "alpha: the pictures' transparency; rembg: a model that finds subjects; clipseg: a model that finds words"
THRESHOLD_HELP = f"from 0 to 1: what counts as found; by default {CLIPSEG_THRESHOLD} for clipseg, none for the others"
MODE_HELP = (
    "where a mask is there already: skip keeps it, overwrite replaces it, add counts what is in either, "
    "subtract takes what is found out of it, intersect counts what is in both"
)
# Options that belong to some methods only.
# The least and the most of numbers.
RANGES: dict[str, tuple[int, int]] = {
    "grow": (0, 16384),
    "shrink": (0, 16384),
    "blur": (0, 16384),
    "workers": (0, 1024),
    "batch_size": (1, 65536),
}
OWN = {
    "model": ("rembg", "clipseg"),
    "device": ("rembg", "clipseg"),
    "batch_size": ("rembg", "clipseg"),
    "normalize": ("rembg",),
    "prompt": ("clipseg",),
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written, each checked by itself."""
    parser = argument_parser("Make masks for masked training, beside the pictures, which stay as they are.")
    add = parser.add_argument
    add("input", type=Path, metavar="INPUT", help="folder of pictures")
    add("--method", required=True, choices=METHODS, help=METHOD_HELP)
    add("--model", help=f"rembg: an .onnx file; clipseg: folder or hub id, by default {CLIPSEG}")
    add("--normalize", choices=KINDS, help="rembg: what kind of model it is; by default told by its name")
    add("--prompt", action="append", help="clipseg: what to look for; given several times, any of them counts")
    add("--output", type=Path, help="folder for the masks; by default they lie beside the pictures")
    add("--recursive", action="store_true", help="look into the folders inside INPUT too")
    add("--mode", choices=MODES, default="skip", help=MODE_HELP)
    add("--threshold", type=float, help=THRESHOLD_HELP)
    add("--grow", type=int, default=0, metavar="PIXELS", help="make what was found larger all around")
    add("--shrink", type=int, default=0, metavar="PIXELS", help="make it smaller; after --grow, so both fill holes")
    add("--invert", action="store_true", help="learn everything but what was found")
    add("--blur", type=float, default=0.0, metavar="PIXELS", help="soften the mask's edges")
    add("--min_value", type=float, default=0.0, help="how much the rest still counts, such as 0.1")
    add("--device", choices=("cpu", "cuda"), help="by default the GPU where there is one")
    add("--batch_size", type=int, help=f"pictures that the model sees at once; by default {BATCH_SIZE}")
    add("--workers", type=int, default=2, help="threads that read and write; 0 stands for all cores")
    return parser.parse_args(argv)


def check(settings: argparse.Namespace) -> None:
    """InputError naming every setting that is out of range or does not go with the method."""
    method = settings.method
    wrong = [
        f"--{name} is for the method {' or '.join(methods)}, not {method}."
        for name, methods in OWN.items()
        if method not in methods and getattr(settings, name) is not None
    ]
    if method == "rembg" and not settings.model:
        wrong.append("--method rembg needs --model FILE.onnx, such as rembg's u2net.onnx or isnet-general-use.onnx.")
    if method == "clipseg" and not all(word.strip() for word in settings.prompt or [""]):
        wrong.append('--method clipseg needs --prompt, such as --prompt "a dog".')
    for name, (least, most) in RANGES.items():
        value = getattr(settings, name)
        if value is not None and not least <= value <= most:
            wrong.append(f"--{name} {value} must be {least} to {most}.")
    if settings.threshold is not None and not 0 < settings.threshold <= 1:
        wrong.append(f"--threshold {settings.threshold} must lie above 0 and up to 1.")
    if not 0 <= settings.min_value < 1:
        wrong.append(f"--min_value {settings.min_value} must lie from 0 to below 1; at 1 all would count the same.")
    if settings.output is not None and os.path.isfile(settings.output):
        wrong.append(f"--output {settings.output} is a file; name a folder.")
    elif settings.output is not None and (reason := why_unwritable(settings.output)):
        wrong.append(f"--output {settings.output} cannot be written ({reason}); give another folder.")
    if wrong:
        raise InputError(*wrong)


def recipe_of(settings: argparse.Namespace) -> Recipe:
    """What is done to what was found."""
    default = CLIPSEG_THRESHOLD if settings.method == "clipseg" else None
    names = ("grow", "shrink", "invert", "blur", "mode", "min_value")
    threshold = default if settings.threshold is None else settings.threshold
    return Recipe(threshold, **{name: getattr(settings, name) for name in names})


def segmenter_of(settings: argparse.Namespace) -> "Segmenter":
    """What finds the masks; InputError where a model cannot be opened."""
    if settings.method == "clipseg":
        from library.prepare.clipseg import open_clipseg

        return open_clipseg(settings.model or CLIPSEG, settings.prompt, settings.device)
    if settings.method == "rembg":
        from library.prepare.saliency import open_saliency

        model, kind = open_saliency(Path(settings.model), settings.normalize, settings.device)
        told = "as --normalize says" if settings.normalize else "told by its name or size; --normalize changes it"
        say(f"{settings.model}: a model like {kind} ({told}), {model.size[0]} x {model.size[1]} pixels.")
        return model
    from library.prepare.segmenters import Transparency

    return Transparency()


def main(argv: Sequence[str] | None = None) -> int:
    """Find the pictures, open the model, and write their masks."""
    settings = parse_arguments(argv)
    check(settings)
    pictures = find_pictures(settings.input, settings.recursive)

    from library.prepare.masking import make_masks, plan_masks

    targets, outcome = plan_masks(pictures, settings.input, settings.output, settings.mode)
    if targets:
        workers, batch_size = settings.workers or os.cpu_count() or 1, settings.batch_size or BATCH_SIZE
        make_masks(targets, outcome, segmenter_of(settings), recipe_of(settings), batch_size, workers)
    return finish(outcome, "masks")


if __name__ == "__main__":
    run_program(main)
