"""The base model's card: how it was made and how well it draws, put together from what the programs measured.

python tools/judge_demo.py --model demo/model --json world.json
python tools/judge_demo.py --model demo/model --subject --prompts 104 --json subject.json
python -m demo.card --work demo_work --figures world.json --subject_figures subject.json --machine "two CPU cores"
"""

import argparse
import json
from pathlib import Path
from typing import Any

from demo.trials import GOALS
from demo.world import BACKGROUNDS, BODY_COLORS, SHAPES, SIZE

TEMPLATE = """# A small base model with the structure of Stable Diffusion 1.5

It draws cartoon creatures of {size} x {size} pixels and nothing else. It is here so that training, drawing and the
tests run on any computer at once, through the very code that real Stable Diffusion 1.5 models use: same parts, same
block types, same names of modules and tensors, only fewer channels. It was made from nothing but pictures that this
project draws itself; no weights of other models are in it.

## How it was made

    python tools/make_demo_model.py --pictures {pictures} --seed {seed}

| | |
|---|---|
| machine | {machine} |
| pictures | {pictures}, drawn by `demo/world.py`, captions by `demo/captions.py` |
| seed | {seed} |
| VAE | {vae_parameters:.1f} M parameters, {vae_steps:,} steps, {vae_minutes:.0f} minutes; \
then its decoder alone {decoder_steps:,} steps, {decoder_minutes:.0f} minutes |
| UNet and text encoder, together | {unet_parameters:.1f} M and {text_parameters:.1f} M parameters, \
{unet_steps:,} steps, {unet_minutes:.0f} minutes |
| schedule | scaled-linear 0.00085 to 0.012, epsilon |
| training | 10 % empty captions, min-SNR 5 with more weight near pure noise, averaged weights |
| size | {megabytes:.0f} MB, fp16 |
{remark}
## What it knows

Body shapes: {shapes}. Body colours: {colors}. Backgrounds: {backgrounds}, plain, dotted or striped. One eye or two;
a hat, a bow or neither; small or big; left, center or right. For example "a round red creature with a hat on a blue
background", or "creature on a blue background".

## How well it draws

A judge that knows only the world's looks (`demo/judge.py`) examined {prompts} random prompts, {steps} steps,
sampler {sampler}, guidance {guidance:g}, seed {judge_seed}:

| | right | goal |
|---|---|---|
{rows}

    python tools/judge_demo.py --model demo/model
{subject}"""

SUBJECT = """
The creature of `demo/subject` is outside its world: of {prompts} pictures for "sks creature on a ... background", \
{found:.1f} % show all
marks of that creature.
"""


def made_of(work: Path, model: Path) -> dict[str, Any]:
    """Steps, minutes, pictures, seed and sizes, read from the training's own files and the model folder."""
    import torch
    from safetensors import safe_open

    facts: dict[str, Any] = {}
    for name in ("vae", "unet", "decoder"):
        state = torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True, mmap=True)
        facts |= {f"{name}_steps": state["steps"], f"{name}_minutes": state["seconds"] / 60}
    latents = torch.load(work / "latents.pt", map_location="cpu", weights_only=True, mmap=True)
    facts |= {"pictures": len(latents["mean"]), "seed": latents["seed"]}
    for name, part in (("vae", "vae"), ("unet", "unet"), ("text", "text_encoder")):
        [file] = (model / part).glob("*.safetensors")
        with safe_open(file, "pt") as tensors:
            counts = [torch.Size(tensors.get_slice(key).get_shape()).numel() for key in tensors.keys()]  # noqa: SIM118
        facts[f"{name}_parameters"] = sum(counts) / 1e6
    facts["megabytes"] = sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6
    return facts


def card(facts: dict[str, Any], world: dict[str, Any], subject: dict[str, Any] | None) -> str:
    """The card's text, from facts (`made_of`, machine, remark) and what `tools/judge_demo.py --json` wrote."""
    rows = [
        f"| {name} | {100 * part['all']:.1f} % | {100 * GOALS[name]:.0f} % |" for name, part in world["figures"].items()
    ]
    about = ""
    if subject is not None:
        found = 100 * subject["figures"]["all marks"]["all"]
        about = SUBJECT.format(prompts=subject["prompts"], found=found)
    return TEMPLATE.format(
        **facts,
        size=SIZE,
        shapes=", ".join(SHAPES),
        colors=", ".join(BODY_COLORS),
        backgrounds=", ".join(BACKGROUNDS),
        rows="\n".join(rows),
        judge_seed=world["seed"],
        subject=about,
        **{name: world[name] for name in ("prompts", "steps", "sampler", "guidance")},
    )


def main() -> None:
    """Write README.md into the model's folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("demo/model"), help="the finished model's folder")
    parser.add_argument("--work", type=Path, default=Path("demo_work"), help="the --work folder of its making")
    parser.add_argument("--figures", type=Path, required=True, help="what tools/judge_demo.py --json wrote")
    parser.add_argument("--subject_figures", type=Path, help="the same with --subject and without a LoRA")
    parser.add_argument("--machine", required=True, help="the machine that it was trained on, in words")
    parser.add_argument("--remark", help="in which way the making differed from the plain command, if it did")
    settings = parser.parse_args()
    world = json.loads(settings.figures.read_text(encoding="utf-8"))
    subject = settings.subject_figures and json.loads(settings.subject_figures.read_text(encoding="utf-8"))
    facts = made_of(settings.work, settings.model)
    facts["machine"] = settings.machine
    facts["remark"] = f"\n{settings.remark}\n" if settings.remark else ""
    text = card(facts, world, subject)
    (settings.model / "README.md").write_text(text, encoding="utf-8")
    print(f"{settings.model / 'README.md'}: written")


if __name__ == "__main__":
    main()
