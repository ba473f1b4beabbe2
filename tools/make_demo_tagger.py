"""Make the demo's tagger: train a small network to tag the picture world, write it as an ONNX file, and judge it.

python tools/make_demo_tagger.py --output demo/tagger --steps 1000 --machine "one core of an AMD EPYC"
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.log import say

BATCH = 64


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings; started again with the same --work, an interrupted run goes on where it was."""
    parser = argument_parser("Train the demo's tagger and write it with its list of tags and its card.")
    add = parser.add_argument
    add("--output", type=Path, default=Path("demo/tagger"), help="folder of the finished tagger")
    add("--work", type=Path, default=Path("demo_work"), help="folder of the checkpoint")
    add("--steps", type=int, default=1000, help=f"steps of {BATCH} pictures")
    add("--judged", type=int, default=500, help="new pictures that it is judged by")
    add("--seed", type=int, default=0, help="of the pictures and of the first weights")
    add("--machine", default="not noted", help="the machine in words, for the card")
    settings = parser.parse_args(argv)
    if min(settings.steps, settings.judged) < 1:
        raise InputError("--steps and --judged must be 1 or more.")
    return settings


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write the folder, judge what was written by the code that users run."""
    settings = parse_arguments(argv)

    import onnx

    from demo.tagger_card import card, judge, judge_backgrounds
    from demo.tagger_training import to_onnx, train_tagger, write_tags
    from demo.training import Budget
    from library.prepare.tagger import MODEL, SELECTED_TAGS, open_tagger

    budget = Budget(seconds=1.0, steps=settings.steps)
    network, counts = train_tagger(settings.work, budget, settings.seed, BATCH)
    folder = settings.output
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(network), folder / MODEL)
    write_tags(folder / SELECTED_TAGS, counts)

    tagger = open_tagger(str(folder), "cpu")
    drawn, worn = (judge(tagger, settings.judged, settings.seed, is_weathered) for is_weathered in (False, True))
    subject = Path(__file__).resolve().parents[1] / "demo" / "subject"
    facts = {
        "steps": settings.steps,
        "seed": settings.seed,
        "batch": BATCH,
        "machine": settings.machine,
        "pictures": settings.steps * BATCH,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "kilobytes": (folder / MODEL).stat().st_size / 1000,
        "minutes": budget.done_seconds / 60,
        "count": settings.judged,
    }
    text = card(facts, drawn, worn, judge_backgrounds(tagger, subject))
    (folder / "README.md").write_text(text, encoding="utf-8")
    for name in drawn:
        say(f"{name:12} {100 * drawn[name]:5.1f} % as drawn, {100 * worn[name]:5.1f} % after resizing, JPEG ...")
    return 0


if __name__ == "__main__":
    run_program(main)
