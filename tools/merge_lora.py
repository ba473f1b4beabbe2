"""Merge LoRAs into a model for good, or several LoRAs into one; with ratios, negative ones too, and block weights.

python tools/merge_lora.py --model demo/model --lora mine.safetensors:0.8 --output merged.safetensors
python tools/merge_lora.py --model demo/model --lora mine.safetensors:0.8:in=0.5,mid=1,out8=0 --output merged_folder
python tools/merge_lora.py --lora one.safetensors:1 two.safetensors:-0.5 --output both.safetensors --dim 32
python tools/merge_lora.py --lora one.safetensors lokr.safetensors --base demo/model --dim 32 --output both.safetensors
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.adapters.given import LORA_HELP, LORA_METAVAR, read_lora
from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.log import say

if TYPE_CHECKING:
    import torch

    from library.adapters.combining import Share
    from library.adapters.keys import LoraWeights

PRECISIONS = ("fp32", "fp16", "bf16")
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
EXAMPLE = "python tools/merge_lora.py --model demo/model --lora mine.safetensors:0.8 --output merged.safetensors"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Merge LoRAs into a model for good, or several LoRAs into one.", EXAMPLE)
    add = parser.add_argument
    add("--model", help="base model: diffusers folder, hub id, .safetensors or .ckpt; without it LoRAs become one LoRA")
    add("--lora", nargs="+", action="extend", default=[], metavar=LORA_METAVAR, help=LORA_HELP)
    add("--output", required=True, type=Path, help="a .safetensors file; of a model also a folder in diffusers' layout")
    add("--dim", type=int, help="the rank of the one LoRA; by default the sum of all ranks, which loses nothing")
    add("--base", help="the model that they are for, where one is no plain LoRA (LoHa, LoKr, DoRA ...): with --dim")
    add("--save_precision", choices=PRECISIONS, help="number format; by default as in the model, or fp32 for a LoRA")
    add("--device", help="where ranks are lowered, such as cpu or cuda; by default the GPU if there is one")
    add("--overwrite", action="store_true", help="replace the output if it is there")
    settings = parser.parse_args(argv)
    wrong: list[str] = []
    settings.lora = [given for text in settings.lora if (given := read_lora(text, "--lora", wrong))]
    wrong += missing_files("--lora", [path for path, _, _ in settings.lora])
    wrong += wrong_output(settings.output, settings.overwrite, () if settings.model else (".safetensors",))
    if settings.model and settings.output.suffix.lower() in PICKLES:
        wrong.append(
            f"a model is not written as a pickle like {settings.output.name}; name a .safetensors or a folder."
        )
    if not settings.lora and not wrong:
        wrong.append("there is nothing to merge; give --lora FILE:RATIO.")
    if settings.dim is not None and (settings.model or settings.dim < 1):
        wrong.append("--dim is the rank of a LoRA made of LoRAs: 1 or more, and not together with --model.")
    if settings.base and not settings.dim:
        wrong.append("--base is for adapters that become a LoRA of a rank; give --dim too, or --model alone.")
    if wrong:
        raise InputError.of(wrong)
    return settings


def merge_into_model(settings: argparse.Namespace, shares: "Sequence[Share]") -> None:
    """The model with the LoRAs in its weights."""
    from library.adapters.combining import described
    from library.adapters.made import PRECISIONS as FORMATS
    from library.models.family import open_family
    from library.models.merging import merge_into, model_metadata

    family = open_family(settings.model)
    dtype = FORMATS[settings.save_precision] if settings.save_precision else None
    how = described(shares)
    merged_from = ", ".join([family.base_name, *(share.path.name for share in shares)])
    metadata = model_metadata(family, settings.output.stem, f"{family.base_name} + {how}", merged_from)
    count = merge_into(family, shares, settings.output, dtype, metadata)
    say(f"written: {settings.output}, {family.base_name} with {count} weights changed by {how}")


def joined(settings: argparse.Namespace, shares: "Sequence[Share]", dtype: "torch.dtype") -> "dict[str, LoraWeights]":
    """The layers of the one LoRA: exactly, or those of a rank that are nearest, with what is lost."""
    from library.adapters.approximation import approximate
    from library.adapters.combining import combine
    from library.adapters.decomposition import RankRule
    from library.adapters.resizing import Ranks, resize, total
    from library.device import pick_device
    from library.models.family import open_family
    from library.models.merging import weights_of

    if not settings.dim:
        return combine(shares)
    rule, device = RankRule(settings.dim), pick_device(settings.device)
    if all(share.is_plain() for share in shares):
        layers, losses = resize(combine(shares), Ranks(rule, rule), dtype, device)
        say(f"{total(losses):.4f} of the whole change lost at rank {settings.dim}")
        return layers
    weights = weights_of(open_family(settings.base)) if settings.base else None
    found = approximate(shares, rule, dtype, device, weights)
    for path, error in found.errors.items():
        say(f"{error:.4f} of the change of {path.name} lost at rank {settings.dim}")
    say(f"{found.error:.4f} of the whole change lost")
    return found.layers


def merge_with_each_other(settings: argparse.Namespace, shares: "Sequence[Share]") -> None:
    """One LoRA of several."""
    from library.adapters.combining import described
    from library.adapters.made import PRECISIONS as FORMATS
    from library.adapters.made import changed_metadata, save_layers
    from library.weights import read_header

    dtype = FORMATS[settings.save_precision or "fp32"]
    layers = joined(settings, shares, dtype)
    first = next((share.path for share in shares if share.path.suffix.lower() == ".safetensors"), None)
    kept = ("ss_v2", "ss_base_model_version", "ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash")
    told = {
        key: value
        for key, value in (read_header(first)[0] if first else {}).items()
        if key in kept or key.startswith("modelspec.")
    }
    how = {"ss_training_comment": described(shares), "modelspec.description": described(shares)}
    how |= {"modelspec.merged_from": ", ".join(share.path.name for share in shares)}
    metadata = changed_metadata(told | {"ss_network_module": "networks.lora"}, layers, settings.output.stem)
    save_layers(settings.output, layers, metadata | how, dtype)
    ranks = sorted({layer.rank for layer in layers.values()})
    words = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    say(f"written: {settings.output}, {len(layers)} layers of rank {words} from {described(shares)}")


def main() -> int:
    """Merge into the model if there is one, else the LoRAs with each other."""
    settings = parse_arguments()

    from library.adapters.combining import Share

    shares = [Share(*given) for given in settings.lora]
    if settings.model:
        merge_into_model(settings, shares)
    else:
        merge_with_each_other(settings, shares)
    return 0


if __name__ == "__main__":
    run_program(main)
