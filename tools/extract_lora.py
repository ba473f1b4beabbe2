"""Make a LoRA of what changed between two models of one family, such as a base model and its DreamBooth training.

python tools/extract_lora.py --base demo/model --tuned output/mine --dim 16 --output mine.safetensors
python tools/extract_lora.py --base base.safetensors --tuned tuned.safetensors --energy 0.95 --dim 64 \
    --conv_dim 16 --save_precision fp16 --output mine.safetensors
python tools/extract_lora.py --base demo/model --tuned output/mine --algo lokr --factor 4 --output mine.safetensors
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program, wrong_output
from library.errors import InputError
from library.log import say

if TYPE_CHECKING:
    from library.models.extraction import Extracted
    from library.models.family import Family

PRECISIONS = ("fp32", "fp16", "bf16")
EXAMPLE = "python tools/extract_lora.py --base demo/model --tuned output/mine --dim 16 --output mine.safetensors"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Make a LoRA of what changed between two models of one family.", EXAMPLE)
    add = parser.add_argument
    add("--base", required=True, help="the model before: diffusers folder, hub id, .safetensors or .ckpt")
    add("--tuned", required=True, help="the model after, in any of these forms")
    add("--output", required=True, type=Path, help="the LoRA, a .safetensors file in kohya's layout")
    add("--algo", choices=("lora", "lokr"), default="lora", help="lokr: Kronecker products, for UIs that know LyCORIS")
    add("--factor", type=int, default=-1, help="of lokr: the most that the small factor's sides may be; -1: the root")
    add("--dim", type=int, help="rank of linear layers and 1x1 convolutions; with --energy the highest")
    add("--conv_dim", type=int, help="rank of the larger convolutions; without it, residual blocks are left out")
    add("--energy", type=float, help="each layer's lowest rank that holds this share of its squared change: 0.95")
    add("--clamp_quantile", type=float, default=1.0, help="cut values beyond this quantile of their size; 1 cuts none")
    add("--save_precision", choices=PRECISIONS, default="fp32", help="number format of the file")
    add("--device", help="where it is computed, such as cpu or cuda; by default the GPU if there is one")
    add("--overwrite", action="store_true", help="replace the output if it is there")
    settings = parser.parse_args(argv)
    wrong = wrong_output(settings.output, settings.overwrite)
    if settings.algo == "lokr" and (settings.energy is not None or settings.clamp_quantile < 1):
        wrong.append("--energy and --clamp_quantile are for --algo lora; of lokr --dim is the large factor's rank.")
    if settings.factor == 0 or settings.factor < -1:
        wrong.append(f"--factor {settings.factor} must be 1 or more, or -1.")
    if settings.algo == "lora" and settings.dim is None and settings.energy is None:
        wrong.append("how much of the change is to be kept? Give --dim, --energy, or both.")
    for name in ("dim", "conv_dim"):
        if getattr(settings, name) is not None and getattr(settings, name) < 1:
            wrong.append(f"--{name} {getattr(settings, name)} must be 1 or more.")
    for name in ("energy", "clamp_quantile"):
        if getattr(settings, name) is not None and not 0 < getattr(settings, name) <= 1:
            wrong.append(f"--{name} {getattr(settings, name):g} must be above 0 and at most 1.")
    if wrong:
        raise InputError.of(wrong)
    return settings


def describe(found: "Extracted", settings: argparse.Namespace) -> None:
    """A line for each part: layers, ranks, and what is missing."""
    is_lokr = settings.algo == "lokr"
    for report in found.reports:
        words = " of LoKr" if is_lokr else f", {ranks_in_words(report.ranks)}"
        say(f"{report.part}: {len(report.ranks)} layers{words}, relative error {report.error:.4f}")
        if report.outside:
            is_open = report.part == "unet" and not settings.conv_dim
            way = "; --conv_dim takes the residual blocks along" if is_open else ""
            name = "LoKr" if is_lokr else "LoRA"
            say(f"  and {report.outside:.1%} of this part's change lies in tensors that the {name} does not have{way}")


def ranks_in_words(ranks: Sequence[int]) -> str:
    """One rank, or the range and the mean."""
    low, high = min(ranks), max(ranks)
    return f"rank {high}" if low == high else f"ranks {low} to {high}, {sum(ranks) / len(ranks):.1f} on average"


def shared_alpha(found: "Extracted") -> float:
    """The one alpha of the file: the highest rank of the layers where it counts."""
    ranks = [layer.rank for layer in found.layers.values() if getattr(layer, "is_split", True)]
    return float(max(ranks, default=1))


def metadata_of(settings: argparse.Namespace, base: "Family", found: "Extracted") -> dict[str, str]:
    """What the file says of itself."""
    from library.adapters.made import made_metadata
    from library.models.merging import made_facts

    ranks = {layer.rank for layer in found.layers.values()}
    alpha = shared_alpha(found)
    told = {"conv_dim": settings.conv_dim, "conv_alpha": alpha} if settings.conv_dim else {}
    if settings.algo == "lokr":
        told |= {"algo": "lokr", "factor": settings.factor}
    facts = made_facts(
        base,
        settings.output.stem,
        base_hashes=base.base_hashes(),
        network_dim=max(ranks) if len(ranks) == 1 else None,
        network_alpha=alpha,
        network_module="lycoris.kohya" if settings.algo == "lokr" else "networks.lora",
        network_args=told,
    )
    return made_metadata(facts, f"The difference of {base.base_name} and {Path(settings.tuned).name}.")


def main() -> int:
    """Open both models, decompose their difference, write the file and read it back."""
    settings = parse_arguments()

    from library.adapters.decomposition import RankRule
    from library.adapters.kronecker import kronecker_tensors
    from library.adapters.made import PRECISIONS as FORMATS
    from library.adapters.made import save_layers
    from library.adapters.metadata import save_adapter
    from library.device import pick_device
    from library.models.extraction import Wish, extract
    from library.models.family import open_family

    factor = settings.factor if settings.algo == "lokr" else None
    rule = RankRule(settings.dim, settings.energy)
    conv_rule = RankRule(settings.conv_dim, settings.energy) if settings.conv_dim else None
    dtype = FORMATS[settings.save_precision]
    wish = Wish(rule, conv_rule, settings.clamp_quantile, dtype, pick_device(settings.device), factor)
    base, tuned = open_family(settings.base), open_family(settings.tuned)
    found = extract(base, tuned, wish)
    describe(found, settings)
    metadata = metadata_of(settings, base, found)
    if settings.algo == "lokr":
        save_adapter(settings.output, kronecker_tensors(found.layers, shared_alpha(found)), metadata, dtype)
    else:
        save_layers(settings.output, found.layers, metadata, dtype)
    say(f"written: {settings.output} ({settings.output.stat().st_size / 1e6:.1f} MB)")
    return 0


if __name__ == "__main__":
    run_program(main)
