"""Say what is inside a LoRA file of any kind: ours, kohya's, LyCORIS', or that of diffusers and PEFT.

python tools/inspect_lora.py mine.safetensors
python tools/inspect_lora.py mine.safetensors --json facts.json
python tools/inspect_lora.py mine.safetensors --toml > again.toml
python tools/inspect_lora.py mine.safetensors --check demo/model
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.log import say, warn

if TYPE_CHECKING:
    from library.adapters.anatomy import Module
    from library.adapters.inspection import Inspection
    from library.models.placing import Placement

EXAMPLE = "python tools/inspect_lora.py mine.safetensors --check demo/model"
STDOUT = "-"
TAGS = 20  # of the most frequent, in what is printed
NAMES = {
    "kohya": "kohya's",
    "diffusers": "diffusers'",
    "original": "the original layout's",
    "hypernetwork": "AUTOMATIC1111's",
    "unknown": "unknown",
}
# What of the training is printed, and in which words.
TRAINING = {
    "sd_model_name": "base model",
    "network_module": "module",
    "network_args": "network arguments",
    "num_train_images": "pictures, with repeats",
    "resolution": "resolution",
    "total_batch_size": "batch size",
    "steps": "steps",
    "epoch": "epoch",
    "num_epochs": "of epochs",
    "unet_lr": "UNet's learning rate",
    "text_encoder_lr": "text encoder's learning rate",
    "learning_rate": "learning rate",
    "optimizer": "optimizer",
    "lr_scheduler": "schedule",
    "lr_warmup_steps": "warm-up steps",
    "mixed_precision": "precision",
    "min_snr_gamma": "min-SNR gamma",
    "noise_offset": "noise offset",
    "clip_skip": "clip skip",
    "seed": "seed",
    "training_comment": "comment",
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Say what is inside a LoRA file of any kind.", EXAMPLE)
    add = parser.add_argument
    add("file", type=Path, help="a .safetensors file, or an old .pt")
    add("--json", type=Path, nargs="?", const=Path(STDOUT), metavar="FILE", help="as JSON to a file, or printed")
    add("--toml", action="store_true", help="print the run's settings, with which --config repeats it")
    add("--check", metavar="MODEL", help="look up every key in this base model; status 2 if some have no place")
    add("--overwrite", action="store_true", help="replace the JSON file if it is there")
    settings = parser.parse_args(argv)
    wrong = missing_files("file", [settings.file])
    if settings.json and str(settings.json) != STDOUT:
        wrong += wrong_output(settings.json, settings.overwrite, (".json",))
    if settings.toml and (settings.json or settings.check):
        wrong.append("--toml is printed alone; leave --json and --check away.")
    if wrong:
        raise InputError.of(wrong)
    return settings


def as_table(look: "Inspection", placement: "Placement | None") -> dict[str, Any]:
    """Everything that is known of a file, for JSON."""
    from library.adapters.uis import verdicts

    table: dict[str, Any] = {
        "file": look.name,
        "bytes": look.size,
        "family": look.family,
        "layout": look.layout,
        "kinds": look.kinds,
        "dtypes": dict(look.dtypes),
        "blocks": {block: summary(modules) for block, modules in look.blocks.items()},
        "layers": [
            {**vars(module), "leaves": list(module.leaves), "shape": module.shape and list(module.shape)}
            for module in look.modules
        ],
        "trigger": look.trigger,
        "tags": dict(look.tags),
        "uis": {each.ui: {"loads": each.state, "why": list(each.reasons)} for each in verdicts(look)},
        "warnings": look.warnings,
        "metadata": dict(look.metadata),
    }
    if placement:
        table["check"] = {**vars(placement), "fits": placement.fits}
    return table


def summary(modules: Sequence["Module"]) -> dict[str, Any]:
    """Counts and lengths of the modules of one block."""
    norms = [module.norm for module in modules]
    ranks = sorted({module.rank for module in modules if module.rank is not None})
    alphas = sorted({module.alpha for module in modules if module.alpha is not None})
    mean, largest = sum(norms) / len(norms), max(norms)
    return {"layers": len(modules), "ranks": ranks, "alphas": alphas, "mean_norm": mean, "largest_norm": largest}


def show_file(look: "Inspection") -> None:
    """The file as a person reads it."""
    from library.adapters.inspection import FAMILY_NAMES
    from library.adapters.uis import verdicts

    kinds = ", ".join(f"{count} {kind}" for kind, count in look.kinds.items())
    whole = summary(look.modules)
    family = FAMILY_NAMES.get(look.family or "", "an unknown model")
    say(f"{look.name}: for {family}, in {NAMES[look.layout]} names, {look.size / 1e6:.1f} MB")
    if look.hypernetwork:
        form = look.hypernetwork.form
        structure = ", ".join(f"{each:g}" for each in form.structure)
        say(f"a hypernetwork of {structure} times the context's width with {form.activation}")
    say(f"layers: {kinds}; ranks {span(whole['ranks'])}, alpha {span(whole['alphas'])}; {', '.join(look.dtypes)}")
    say(f"\n{'block':<8}{'layers':>7}{'ranks':>10}{'norm':>10}{'largest':>10}")
    for block, modules in look.blocks.items():
        row = summary(modules)
        ranks = span(row["ranks"])
        say(f"{block:<8}{row['layers']:>7}{ranks:>10}{row['mean_norm']:>10.4f}{row['largest_norm']:>10.4f}")
    facts = [(words, look.metadata.get(f"ss_{key}", "None")) for key, words in TRAINING.items()]
    if told := [f"{words} {value}" for words, value in facts if value != "None"]:
        say(f"\ntraining: {'; '.join(told)}")
    if look.tags:
        say(f"tags: {', '.join(f'{tag} ({count})' for tag, count in look.tags[:TAGS])}")
    if look.trigger:
        say(f"trigger: {look.trigger}")
    say("")
    for verdict in verdicts(look):
        why = f": {'; '.join(verdict.reasons)}" if verdict.reasons else ""
        state = "does not load it" if verdict.state == "not" else f"loads it {verdict.state}"
        say(f"{verdict.ui:<14} {state}{why}")
    for sentence in look.warnings:
        warn(sentence)


def span(numbers: Iterable[float]) -> str:
    """Numbers as "4", "4 to 16", or "none"."""
    found = sorted(numbers)
    if not found:
        return "none"
    return f"{found[0]:g}" if found[0] == found[-1] else f"{found[0]:g} to {found[-1]:g}"


def show_placement(placement: "Placement", model: str) -> None:
    """What became of every module in the model; InputError if some have no place there."""
    say(f"\n{placement.found} layers found their place in {model}.")
    if placement.missing:
        say(f"{len(placement.missing)} others of its layers stay as they are, such as {placement.missing[0]}.")
    wrong = [f"{sentence}." for sentence in placement.wrong[:5]]
    if placement.unknown:
        count = Counter(stem.split("_")[1] if "_" in stem else stem for stem in placement.unknown)
        parts = ", ".join(f"{number} of {part}" for part, number in count.items())
        wrong.append(f"{parts}: layers that {model} has not, such as {placement.unknown[0]}.")
    if wrong:
        raise InputError(f"{len(placement.unknown) + len(placement.wrong)} layers have no place in {model}.", *wrong)


def plain(value: Any) -> Any:
    """The same with null for the numbers that JSON has not: NaN and infinity."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, table: dict[str, Any]) -> None:
    """The table into a file, whole or not at all, or onto the screen."""
    from library.files import write_atomically

    text = json.dumps(plain(table), indent=2, ensure_ascii=False, allow_nan=False)
    if str(path) == STDOUT:
        say(text)
    else:
        write_atomically(path, lambda unfinished: unfinished.write_text(text + "\n", encoding="utf-8"))


def main() -> int:
    """Read the file, and say what was asked for."""
    settings = parse_arguments()

    from library.adapters.inspection import inspect

    look = inspect(settings.file)
    if settings.toml:
        from library.train.retold import retold_settings

        text = retold_settings(look.metadata)
        if not text:
            raise InputError(f"{settings.file} tells nothing of the run that made it.")
        say(text.rstrip())
        return 0
    placement = None
    if settings.check:
        from library.models.family import open_family
        from library.models.placing import place

        placement = place(open_family(settings.check), look.modules)
    if settings.json:
        write_json(settings.json, as_table(look, placement))
    if not settings.json or str(settings.json) != STDOUT:
        show_file(look)
        if placement:
            show_placement(placement, settings.check)
    return 0 if placement is None or placement.fits else 2


if __name__ == "__main__":
    run_program(main)
