"""Turn a base model into another layout: one file, a folder of diffusers, or its UNet into an ONNX graph.

python tools/convert_model.py models/v1-5.safetensors models/v1-5 --to diffusers
python tools/convert_model.py models/v1-5 half.safetensors --to safetensors --precision fp16 --lora mine.safetensors:0.8
python tools/convert_model.py models/v1-5 unet.onnx --to onnx --lora mine.safetensors
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.adapters.given import LORA_HELP, LORA_METAVAR, read_lora
from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.log import say

if TYPE_CHECKING:
    from library.adapters.combining import Share
    from library.models.family import Family

# Form -> how its name ends; a folder's has to be another.
ENDINGS = {"safetensors": (".safetensors",), "diffusers": (), "onnx": (".onnx",)}
FILES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".onnx")
PRECISIONS = ("fp32", "fp16", "bf16")
EXAMPLE = "python tools/convert_model.py models/v1-5.safetensors models/v1-5 --to diffusers --precision fp16"
TO_HELP = (
    "safetensors: one file, as most UIs want it; diffusers: a folder; onnx: the UNet as a graph, which is compared "
    "with the model in onnxruntime before it gets its name"
)
PRECISION_HELP = "number format of all weights; by default each keeps its own, and a graph is fp32"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Turn a base model into another layout, with LoRAs merged if some are given.", EXAMPLE)
    add = parser.add_argument
    add("model", help="base model: diffusers folder, hub id, .safetensors or .ckpt")
    add("output", type=Path, help="the new file, or for diffusers the new folder")
    add("--to", required=True, choices=tuple(ENDINGS), help=TO_HELP)
    add("--precision", choices=PRECISIONS, help=PRECISION_HELP)
    add("--vae", help="another model, or a VAE, whose VAE takes the place of the model's")
    add("--lora", nargs="+", action="extend", default=[], metavar=LORA_METAVAR, help=LORA_HELP)
    add("--overwrite", action="store_true", help="replace the output if it is there")
    settings = parser.parse_args(argv)
    wrong: list[str] = []
    settings.lora = [given for text in settings.lora if (given := read_lora(text, "--lora", wrong))]
    wrong += missing_files("--lora", [path for path, _, _ in settings.lora])
    wrong += wrong_forms(settings)
    if wrong:
        raise InputError.of(wrong)
    return settings


def wrong_forms(settings: argparse.Namespace) -> list[str]:
    """What speaks against this output, and against options that it has no place for."""
    output, is_folder = settings.output, settings.to == "diffusers"
    wrong = []
    if Path(settings.model).exists() and output.exists() and output.samefile(settings.model):
        wrong.append(f"{output} is the model itself; give the output another name.")
    elif is_folder and (output.suffix.lower() in FILES or output.is_file()):
        wrong.append(f"--to diffusers writes a folder, and {output.name} is the name of a file.")
    else:
        wrong += wrong_output(output, settings.overwrite, ENDINGS[settings.to])
    if settings.to == "onnx" and settings.vae:
        wrong.append("--vae has no place in an ONNX graph, which is of the UNet alone.")
    if settings.to == "onnx" and settings.precision == "bf16":
        wrong.append("--precision bf16: onnxruntime computes no UNet in bf16; use fp32 or fp16.")
    return wrong


def convert(settings: argparse.Namespace, family: "Family", shares: "Sequence[Share]") -> None:
    """Write the whole model in the other layout."""
    from library.adapters.combining import described
    from library.adapters.made import HASHES
    from library.adapters.made import PRECISIONS as FORMATS
    from library.models.merging import merge_into, model_metadata

    how = f"{family.base_name} as {settings.to}{f' + {described(shares)}' if shares else ''}"
    told = model_metadata(family, settings.output.stem, how)
    own = {} if shares else {key: value for key, value in read_words(settings.model).items() if key not in HASHES}
    dtype = FORMATS[settings.precision] if settings.precision else None
    count = merge_into(family, shares, settings.output, dtype, told | own)
    changed = f", {count} weights changed by {described(shares)}" if shares else ""
    say(f"written: {settings.output}, {size_of(settings.output)}{changed}")


def read_words(model: str) -> Mapping[str, str]:
    """What the model's own file says of itself, where it is a file that can say it."""
    from library.weights import read_header

    path = Path(model).expanduser()
    return read_header(path)[0] if path.is_file() and path.suffix.lower() == ".safetensors" else {}


def export(settings: argparse.Namespace, family: "Family", shares: "Sequence[Share]") -> None:
    """Write the UNet as a graph, and say how well it agrees with the model."""
    from library.adapters.combining import described
    from library.adapters.made import PRECISIONS as FORMATS
    from library.models.graphs import write_unet
    from library.models.merging import merged_unet

    unet, count = merged_unet(family, shares, FORMATS[settings.precision or "fp32"])
    words = {"base_model": family.base_name, "prediction_type": family.prediction_type}
    agreement = write_unet(settings.output, family, unet, words | {"adapters": described(shares)})
    changed = f", {count} weights changed by {described(shares)}" if shares else ""
    beside = settings.output.with_name(f"{settings.output.name}.data")
    where = f" and {beside.name}" if beside.exists() else ""
    say(f"written: {settings.output}{where}{changed}")
    say(
        f"onnxruntime and torch agree: their answers differ by {agreement.difference:.1e} at most, where the largest "
        f"number is {agreement.largest:.2f}"
    )


def size_of(path: Path) -> str:
    """How large a file or folder is, in words."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return f"{sum(each.stat().st_size for each in files) / 1e6:.1f} MB"


def main() -> int:
    """Open the model, and write it in the form that is asked for."""
    settings = parse_arguments()

    from library.adapters.combining import Share
    from library.models.family import open_family

    family = open_family(settings.model, settings.vae)
    shares = [Share(*given) for given in settings.lora]
    if settings.to == "onnx":
        export(settings, family, shares)
    else:
        convert(settings, family, shares)
    return 0


if __name__ == "__main__":
    run_program(main)
