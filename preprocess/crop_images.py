"""Bring the pictures of a folder to one size, into a new folder; the originals stay as they are.

python preprocess/crop_images.py photos cropped --size 512,768 --crop face --recursive
python preprocess/crop_images.py photos smaller --min_side 1024 --format jpg
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.files import why_unwritable

CROPS = ("center", "smart", "face")
FORMATS = ("png", "jpg")
SIDES = range(8, 16385)  # pixels


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written, each checked by itself."""
    parser = argument_parser("Bring the pictures of a folder to one size; the originals stay as they are.")
    add = parser.add_argument
    add("input", type=Path, help="folder with pictures: png, jpg, webp, avif, heic, bmp, gif, tiff")
    add("output", type=Path, help="folder to write to; what this program did not write there is left alone")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--size", type=read_size, default="512,512", help="W,H of the crops in pixels, or one side")
    shape.add_argument("--min_side", type=read_side, metavar="N", help="cut nothing; the shorter side gets N pixels")
    add("--crop", choices=CROPS, help="part to keep: the middle, the most detail, or around a face; else center")
    add("--face_model", type=Path, metavar="FILE.onnx", help="a YuNet model instead of scikit-image's cascade")
    add("--max_upscale", type=float, metavar="F", help="leave out pictures to be enlarged more; else no limit")
    add("--format", choices=FORMATS, default="png", help="of what is written")
    add("--quality", type=int, help="of jpg, 1 to 100; 95 if not given")
    add("--caption_extension", default=".txt", help="of captions to copy along; .caption files always are")
    add("--recursive", action="store_true", help="folders inside the folder too")
    add("--processes", type=int, default=0, help="pictures worked on at the same time; 0 stands for all cores")
    add("--overwrite", action="store_true", help="make crops anew that are current, and copy captions anew")
    settings = parser.parse_args(argv)
    check(settings)
    return settings


def read_side(text: str) -> int:
    """A number of pixels."""
    if not text.isdecimal() or int(text) not in SIDES:
        raise argparse.ArgumentTypeError(f"a side has {SIDES[0]} to {SIDES[-1]} pixels, not {text!r}")
    return int(text)


def read_size(text: str) -> tuple[int, int]:
    """(width, height) from `W,H`, or a square from one number."""
    sides = [read_side(word.strip()) for word in text.split(",")]
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"a size is W,H or one side, such as 512,768, not {text!r}")
    return sides[0], sides[-1]


def check(settings: argparse.Namespace) -> None:
    """InputError naming every setting that does not go with the others."""
    wrong = []
    if settings.min_side and settings.crop:
        wrong.append(f"--min_side cuts nothing, so --crop {settings.crop} has no use; give one of them.")
    if settings.face_model and settings.crop != "face":
        wrong.append("--face_model is for --crop face.")
    if settings.face_model and not settings.face_model.is_file():
        wrong.append(f"--face_model {settings.face_model}: there is no such file.")
    if settings.max_upscale is not None and not 1 <= settings.max_upscale < float("inf"):
        wrong.append(f"--max_upscale {settings.max_upscale:g} must be 1 or more; 1 enlarges nothing.")
    if settings.quality is not None and settings.format != "jpg":
        wrong.append("--quality is for --format jpg; png keeps everything.")
    if settings.quality is not None and not 1 <= settings.quality <= 100:
        wrong.append(f"--quality {settings.quality} must be 1 to 100.")
    if not 0 <= settings.processes <= 1024:
        wrong.append(f"--processes {settings.processes} must be 0 to 1024.")
    if not os.path.isfile(settings.output) and (reason := why_unwritable(settings.output)):
        wrong.append(f"the output folder {settings.output} cannot be written ({reason}); give another.")
    if wrong:
        raise InputError.of(wrong)


def main(argv: Sequence[str] | None = None) -> int:
    """Crop everything that is not there yet, and say what became of it."""
    settings = parse_arguments(argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each process has a core; more threads would be in the way

    from library.prepare.crops import Handling, Recipe, crop_folder
    from library.prepare.sidecars import check_extension

    recipe = Recipe(
        size=None if settings.min_side else settings.size,
        min_side=settings.min_side or 0,
        crop=settings.crop or "center",
        face_model=settings.face_model,
        max_upscale=settings.max_upscale,
        ending=f".{settings.format}",
        quality=settings.quality or 95,
    )
    extension = check_extension(settings.caption_extension)
    handling = Handling(settings.recursive, extension, settings.overwrite)
    return crop_folder(settings.input, settings.output, recipe, handling, settings.processes)


if __name__ == "__main__":
    run_program(main)
