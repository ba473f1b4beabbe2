"""Make the demo's captioner: train a small BLIP on pictures of the world, write it, judge it, and write its card.

python tools/make_demo_captioner.py --output demo/captioner --work demo_work --steps 4000
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, run_program
from library.errors import InputError
from library.log import say

if TYPE_CHECKING:
    from PIL.Image import Image

    from library.prepare.blip import Blip

SUBJECT = Path(__file__).resolve().parents[1] / "demo" / "subject"
BATCH = 8  # pictures that are captioned together


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings; started again with the same --work, an interrupted run goes on where it was."""
    parser = argument_parser("Make the demo's captioner: train a small BLIP on the picture world.")
    add = parser.add_argument
    add("--output", type=Path, default=Path("demo/captioner"), help="folder of the finished captioner")
    add("--work", type=Path, default=Path("demo_work"), help="folder of the checkpoint")
    add("--pictures", type=int, default=12000, help="pictures of the world to train on")
    add("--steps", type=int, default=4000, help="training steps, each of 64 pictures")
    add("--seed", type=int, default=0, help="of the pictures, the captions and the weights")
    add("--judged", type=int, default=300, help="fresh pictures that the captioner is judged on")
    add("--machine", default="a CPU", help="the machine, in words for the card")
    settings = parser.parse_args(argv)
    for name in ("pictures", "steps", "judged"):
        if getattr(settings, name) < 1:
            raise InputError(f"--{name} is {getattr(settings, name)}; it must be 1 or more.")
    return settings


def captions_of(model: "Blip", pictures: Sequence["Image"]) -> list[str]:
    """The likeliest caption of each picture."""
    pixels = [model.pixels(picture) for picture in pictures]
    starts = range(0, len(pixels), BATCH)
    batches = (pixels[start : start + BATCH] for start in starts)
    return [answers[0] for batch in batches for answers in model.answers(batch, [""] * len(batch))]


def judge(folder: Path, count: int, seed: int) -> tuple[dict[str, object], dict[str, float]]:
    """What the card tells of the written captioner, and its figures on fresh creatures."""
    import torch

    from demo.judge_captions import agreement, said_ground, shares
    from demo.world import draw, random_for, sample
    from library.data.decoding import read_picture
    from library.prepare.blip import open_blip
    from library.prepare.captioner import Decoding

    decoding = Decoding()
    model = open_blip(str(folder), decoding, torch.device("cpu"), torch.float32)
    creatures = [sample(random_for(seed, index, "fresh")) for index in range(count)]
    pictures = [draw(creature) for creature in creatures]
    start = time.process_time()
    captions = captions_of(model, pictures)
    seconds = time.process_time() - start
    figures = shares([agreement(text, one) for text, one in zip(captions, creatures, strict=True)])
    paths = sorted(SUBJECT.glob("*.png"))
    grounds = [said_ground(path.with_suffix(".txt").read_text(encoding="utf-8")) for path in paths]
    said = [said_ground(text) for text in captions_of(model, [read_picture(path) for path in paths])]
    right = sum(word == ground for word, ground in zip(said, grounds, strict=True))
    files = [path for path in folder.rglob("*") if path.name != "README.md"]
    facts: dict[str, object] = {
        "judged": count,
        "beams": decoding.beams,
        "speed": count / seconds,
        "subject": len(paths),
        "subject_right": right,
        "megabytes": sum(path.stat().st_size for path in files) / 1e6,
        "parameters": model.model.num_parameters() / 1e6,
        "words": len(model.processor.tokenizer),
    }
    return facts, figures


def main(argv: Sequence[str] | None = None) -> int:
    """Train, write the folder, judge it as written, and write its card."""
    settings = parse_arguments(argv)

    from demo.captioner_training import BATCH as TRAINED
    from demo.captioner_training import IMAGE_SIZE, train_captioner, write_captioner
    from demo.judge_captions import card
    from demo.training import Budget

    budget = Budget(seconds=0.0, steps=settings.steps)
    model = train_captioner(settings.work, budget, settings.seed, settings.pictures)
    write_captioner(settings.output, model)
    facts, figures = judge(settings.output, settings.judged, settings.seed)
    names = ("pictures", "steps", "seed", "machine")
    facts |= {name: getattr(settings, name) for name in names}
    facts |= {"batch": TRAINED, "minutes": budget.done_seconds / 60, "size": IMAGE_SIZE}
    (settings.output / "README.md").write_text(card(facts, figures), encoding="utf-8")
    say(f"{settings.output}: " + ", ".join(f"{name} {100 * part:.1f} %" for name, part in figures.items()))
    return 0


if __name__ == "__main__":
    run_program(main)
