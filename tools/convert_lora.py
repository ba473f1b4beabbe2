"""Turn a LoRA file into another layout; the way back gives the same numbers again.

python tools/convert_lora.py mine.safetensors for_diffusers.safetensors --to diffusers
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.log import say

LAYOUTS = ("kohya", "diffusers", "original")
EXAMPLE = "python tools/convert_lora.py mine.safetensors for_diffusers.safetensors --to diffusers"
TO_HELP = (
    "kohya: what every UI loads; diffusers: the names of diffusers and PEFT; original: as kohya, with the UNet's "
    "layers by their names in checkpoints, which is the same for XL"
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Turn a LoRA file into another layout.", EXAMPLE)
    add = parser.add_argument
    add("file", type=Path, help="the LoRA, in any of the three layouts")
    add("output", type=Path, help="the new file, a .safetensors")
    add("--to", required=True, choices=LAYOUTS, help=TO_HELP)
    add("--overwrite", action="store_true", help="replace the output if it is there")
    settings = parser.parse_args(argv)
    wrong = missing_files("file", [settings.file]) + wrong_output(settings.output, settings.overwrite)
    if wrong:
        raise InputError.of(wrong)
    return settings


def main() -> int:
    """Read the file, rename and rescale, write the new file and read it back."""
    settings = parse_arguments()

    from library.adapters.layouts import convert
    from library.adapters.metadata import write_described
    from library.weights import load_any, read_header

    metadata = read_header(settings.file)[0] if settings.file.suffix.lower() == ".safetensors" else {}
    tensors, told = convert(load_any(settings.file), metadata, settings.to, str(settings.file))
    write_described(settings.output, tensors, told)
    say(f"written: {settings.output}, {len(tensors)} tensors in the layout {settings.to}")
    return 0


if __name__ == "__main__":
    run_program(main)
