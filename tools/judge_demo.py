"""Draw the demo's prompts with diffusers, look at the pictures with the judge, print how many are right.

python tools/judge_demo.py --model demo/model                        random creatures: what the base model can
python tools/judge_demo.py --model demo/model --subject              the subject, which the base cannot draw
python tools/judge_demo.py --model demo/model --lora output/demo.safetensors --subject --sheet sheet.png
python tools/judge_demo.py --model output/dreambooth --class         any creature: has its class drifted?
"""

import argparse
import json
import logging
import sys
import textwrap
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo import trials as questions
from demo.trials import Findings, Trial, figures, table
from library.cli import argument_parser, run_program
from library.errors import InputError
from library.lookup import SAMPLERS, resolve
from library.models.asked import read_lora
from library.samplers import OPTIONS
from library.seeds import derive_seed
from library.sheet import contact_sheet

OF_DIFFUSERS = sorted(name for name, target in SAMPLERS.items() if target.startswith("diffusers:"))
CELL = 256  # pixels; pictures on the sheet
LETTER = 15  # pixels
LINE = 34  # letters below a picture
COLUMNS = 8
GOOD, BAD = (32, 32, 36), (190, 20, 20)

# What the names of a plain LoRA's tensors end with, in kohya's and in diffusers' layout.
PLAIN = (".lora_down.weight", ".lora_up.weight", ".alpha", ".lora_A.weight", ".lora_B.weight")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, checked."""
    parser = argument_parser("Draw the demo's prompts and judge the pictures.")
    parser.add_argument("--model", default="demo/model", help="diffusers folder of the base model")
    parser.add_argument("--lora", type=read_lora, metavar="FILE:STRENGTH", help="a LoRA file, its strength if not 1")
    parser.add_argument("--embedding", metavar="FILE", type=Path, help="a textual inversion's file; its word is --word")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--subject", action="store_true", help="the striped subject instead of random creatures")
    class_help = "any creature, of which only the ground is said: whether the subject's class has drifted"
    what.add_argument("--class", dest="any_creature", action="store_true", help=class_help)
    parser.add_argument("--word", default="sks creature", help="how the prompts name the subject")
    parser.add_argument("--prompts", type=int, default=200, help="pictures to draw")
    parser.add_argument("--steps", type=int, default=25, help="denoising steps for a picture")
    parser.add_argument("--sampler", choices=OF_DIFFUSERS, default="ddim", help="how to denoise")
    parser.add_argument("--guidance", type=float, default=3.0, help="classifier-free guidance; 1 is none")
    parser.add_argument("--batch", type=int, default=10, help="pictures drawn at once")
    parser.add_argument("--seed", type=int, default=0, help="of the prompts and of the noise")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures and every finding here")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="write the pictures here, wrong ones first")
    settings = parser.parse_args(argv)
    complaints = [f"--{name} must be 1 or more." for name in ("prompts", "steps", "batch") if vars(settings)[name] < 1]
    if not (Path(settings.model) / "model_index.json").is_file():
        complaints.append(f"--model {settings.model} is not a diffusers folder: it holds no model_index.json.")
    settings.lora, settings.strength = (settings.lora.path, settings.lora.factor) if settings.lora else (None, 1.0)
    if settings.lora is not None and not settings.lora.is_file():
        complaints.append(f"--lora {settings.lora} is not there.")
    if settings.embedding is not None and not settings.embedding.is_file():
        complaints.append(f"--embedding {settings.embedding} is not there.")
    if complaints:
        raise InputError(*complaints)
    return settings


def chosen_trials(settings: argparse.Namespace) -> tuple[list[Trial], dict[str, float]]:
    """What is drawn, and the goals for it."""
    if settings.any_creature:
        return questions.class_trials(settings.prompts), {}
    if settings.subject:
        return questions.subject_trials(settings.prompts, settings.word), questions.SUBJECT_GOALS
    return questions.world_trials(settings.prompts, settings.seed), questions.GOALS


def open_pipeline(settings: argparse.Namespace) -> Any:
    """diffusers' own StableDiffusionPipeline with the adapter on it, in float32."""
    import torch
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(settings.model, dtype=torch.float32, safety_checker=None)
    pipeline.scheduler = resolve(SAMPLERS[settings.sampler]).from_config(
        pipeline.scheduler.config, **OPTIONS.get(settings.sampler, {})
    )
    pipeline.set_progress_bar_config(disable=True)
    if settings.lora is not None:
        put_on(settings, pipeline)
    if settings.embedding is not None:
        # transformers tells how it fills rows into which diffusers then writes the embedding.
        logging.getLogger("transformers.modeling_utils").addFilter(lambda record: "embeddings" not in record.msg)
        pipeline.load_textual_inversion(str(settings.embedding), token=settings.word)
    return pipeline.to(settings.device)


def put_on(settings: argparse.Namespace, pipeline: Any) -> None:
    """A LoRA by diffusers' own loader; what diffusers cannot read, such as LoHa, is added to the weights."""
    from library.weights import read_header

    keys = read_header(settings.lora)[1] if settings.lora.suffix == ".safetensors" else {}
    if keys and all(key.endswith(PLAIN) for key in keys):
        pipeline.load_lora_weights(str(settings.lora.parent), weight_name=settings.lora.name, adapter_name="judged")
        pipeline.set_adapters(["judged"], [settings.strength])
        return
    from library.adapters.merged import load_adapters
    from library.models.family import open_family

    family = open_family(settings.model)
    modules = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    layers = {part: family.adapter_layers(module, part) for part, module in modules.items()}
    load_adapters([(settings.lora, settings.strength)], modules, layers)


def draw(settings: argparse.Namespace, trials: list[Trial]) -> Iterator[Image.Image]:
    """A picture for every trial; its noise depends on the seed and its number alone, not on the batch."""
    import torch

    pipeline = open_pipeline(settings)
    for start in range(0, len(trials), settings.batch):
        chosen = range(start, min(start + settings.batch, len(trials)))
        noise = [torch.Generator().manual_seed(derive_seed(settings.seed, "judge", number)) for number in chosen]
        yield from pipeline(
            [trials[number].prompt for number in chosen],
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=noise,
        ).images
        print(f"{chosen[-1] + 1} of {len(trials)} pictures", end="\r", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def report(settings: argparse.Namespace, trials: list[Trial], findings: list[Findings]) -> dict[str, Any]:
    """All that --json keeps: how the pictures were drawn, the figures, and each picture's findings."""
    parts = figures([trial.group for trial in trials], findings)
    names = ("prompts", "steps", "sampler", "guidance", "seed", "subject", "word")
    how = {name: getattr(settings, name) for name in names}
    files = {
        "model": settings.model,
        "lora": settings.lora and str(settings.lora),
        "strength": settings.strength,
    }
    pictures = [{"prompt": trial.prompt, **found} for trial, found in zip(trials, findings, strict=True)]
    return {**files, **how, "figures": parts, "pictures": pictures}


def labelled_sheet(trials: list[Trial], findings: list[Findings], pictures: list[Image.Image]) -> Image.Image:
    """Every picture over its prompt and what is wrong with it; the most wrong ones first."""
    order = sorted(range(len(trials)), key=lambda number: sum(findings[number].values()))
    cells = [labelled(pictures[number], trials[number].prompt, findings[number]) for number in order]
    columns = min(COLUMNS, len(cells))
    cells += [Image.new("RGB", cells[0].size, "white")] * (-len(cells) % columns)
    return contact_sheet([cells[start : start + columns] for start in range(0, len(cells), columns)])


def labelled(picture: Image.Image, prompt: str, findings: Findings) -> Image.Image:
    """One picture with words below it."""
    cell = Image.new("RGB", (CELL, CELL + 7 * LETTER), "white")
    cell.paste(picture.resize((CELL, CELL), Image.Resampling.NEAREST), (0, 0))
    pen = ImageDraw.Draw(cell)
    wrong = [name for name, good in findings.items() if not good and name != "all marks"]
    pen.multiline_text((2, CELL + 2), textwrap.fill(prompt, LINE), GOOD, letters())
    pen.multiline_text((2, CELL + 4 * LETTER), textwrap.fill(", ".join(wrong), LINE), BAD, letters())
    return cell


@cache
def letters() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The letters below pictures."""
    return ImageFont.load_default(LETTER)


def main() -> int:
    """Draw, judge, print; write what was asked for."""
    settings = parse_arguments()
    trials, goals = chosen_trials(settings)
    pictures = list(draw(settings, trials))
    findings = [trial.examine(picture) for trial, picture in zip(trials, pictures, strict=True)]
    content = report(settings, trials, findings)
    who = f"{settings.model} with {settings.lora}:{settings.strength:g}" if settings.lora else settings.model
    how = f"{settings.steps} steps, {settings.sampler}, guidance {settings.guidance:g}, seed {settings.seed}"
    print(f"{who}: {settings.prompts} prompts, {how}")
    print(table(content["figures"], goals))
    if settings.any_creature:
        content["spread"] = questions.spread(pictures)
        print("spread: " + ", ".join(f"{number:.1f} {name}" for name, number in content["spread"].items()))
    if settings.json is not None:
        settings.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if settings.sheet is not None:
        labelled_sheet(trials, findings, pictures).save(settings.sheet)
    return 0


if __name__ == "__main__":
    run_program(main)
