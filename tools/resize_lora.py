"""Give a LoRA other ranks, losing as little as can be.

python tools/resize_lora.py mine.safetensors --dim 8 --output small.safetensors
python tools/resize_lora.py mine.safetensors --frobenius 0.95 --dim 32 --output small.safetensors --verbose
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.log import say

PRECISIONS = ("fp32", "fp16", "bf16")
EXAMPLE = "python tools/resize_lora.py mine.safetensors --frobenius 0.95 --dim 32 --output small.safetensors"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Give a LoRA other ranks, losing as little as can be.", EXAMPLE)
    add = parser.add_argument
    add("file", type=Path, help="the LoRA, in the layout of kohya or of diffusers")
    add("--output", required=True, type=Path, help="the new LoRA, a .safetensors file in kohya's layout")
    add("--dim", type=int, help="the rank; with one of the three below the highest")
    add("--conv_dim", type=int, help="the same for convolutions larger than 1x1, if it is another")
    measure = parser.add_mutually_exclusive_group()
    per_layer = "per layer, the lowest rank that "
    measure.add_argument("--ratio", type=float, help=per_layer + "keeps singular values of 1 / RATIO of the largest")
    measure.add_argument("--frobenius", type=float, help=per_layer + "keeps this share of the change's length: 0.95")
    measure.add_argument("--cumulative", type=float, help=per_layer + "keeps this share of the singular values' sum")
    add("--save_precision", choices=PRECISIONS, help="number format of the file; by default that of the old one")
    add("--device", help="where it is computed, such as cpu or cuda; by default the GPU if there is one")
    add("--verbose", action="store_true", help="say each layer's ranks and loss")
    add("--overwrite", action="store_true", help="replace the output if it is there")
    settings = parser.parse_args(argv)
    wrong = missing_files("file", [settings.file]) + wrong_output(settings.output, settings.overwrite)
    if all(value is None for value in (settings.dim, settings.ratio, settings.frobenius, settings.cumulative)):
        wrong.append("to which ranks? Give --dim, --ratio, --frobenius or --cumulative.")
    for name in ("dim", "conv_dim"):
        if getattr(settings, name) is not None and getattr(settings, name) < 1:
            wrong.append(f"--{name} {getattr(settings, name)} must be 1 or more.")
    for name in ("frobenius", "cumulative"):
        if getattr(settings, name) is not None and not 0 < getattr(settings, name) <= 1:
            wrong.append(f"--{name} {getattr(settings, name):g} must be above 0 and at most 1.")
    if settings.ratio is not None and not settings.ratio >= 1:
        wrong.append(f"--ratio {settings.ratio:g} must be 1 or more.")
    if wrong:
        raise InputError.of(wrong)
    return settings


def main() -> int:
    """Read the file, resize every layer, write the new file and read it back."""
    settings = parse_arguments()

    from library.adapters.changes import parse_changes, plain_layers
    from library.adapters.decomposition import RankRule
    from library.adapters.made import PRECISIONS as FORMATS
    from library.adapters.made import changed_metadata, common_format, save_layers
    from library.adapters.resizing import Ranks, resize, total
    from library.device import pick_device
    from library.weights import load_any, read_header

    metadata = read_header(settings.file)[0] if settings.file.suffix.lower() == ".safetensors" else {}
    tensors = load_any(settings.file)
    layers = plain_layers(parse_changes(tensors, metadata, str(settings.file)), str(settings.file), "resized")
    energy = None if settings.frobenius is None else settings.frobenius**2
    linear, convolution = (
        RankRule(most, energy, settings.cumulative, settings.ratio)
        for most in (settings.dim, settings.conv_dim or settings.dim)
    )
    dtype = FORMATS[settings.save_precision] if settings.save_precision else common_format(tensors)
    device = pick_device(settings.device)
    resized, losses = resize(layers, Ranks(linear, convolution), dtype, device)
    if settings.verbose:
        for stem, loss in losses.items():
            say(f"{stem}: rank {loss.before} to {loss.after}, {loss.error:.4f} of its change lost")
    save_layers(settings.output, resized, changed_metadata(metadata, resized, settings.output.stem), dtype)
    mean = [sum(getattr(loss, when) for loss in losses.values()) / len(losses) for when in ("before", "after")]
    ranks = f"mean rank {mean[0]:.1f} to {mean[1]:.1f}"
    say(f"{len(losses)} layers, {ranks}; {total(losses):.4f} of the whole change lost")
    sizes = [path.stat().st_size / 1e6 for path in (settings.file, settings.output)]
    say(f"written: {settings.output} ({sizes[1]:.1f} MB instead of {sizes[0]:.1f})")
    return 0


if __name__ == "__main__":
    run_program(main)
