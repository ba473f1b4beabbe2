"""Draw one prompt over two or three axes, as one labelled picture and one page of HTML, with seconds for each.

python tools/xyz_grid.py --model demo/model --lora demo.safetensors --prompt "sks creature" \
    --x strength=0,0.5,1 --y seed=1,2,3 --output grid.png
python tools/xyz_grid.py --model demo/model --lora demo.safetensors --prompt "sks creature on a red background" \
    --x epoch=50,100,last --y "prompt=red,blue,green" --z sampler=ddim,euler_a --output grid.png
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.adapters.given import read_lora
from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.grid.axes import KINDS, LAST, NONE, Axis, Spec, read_axis, specs_of
from library.log import say
from library.models.parameters import webui_text
from library.models.prompts import Prompt
from library.sheet import contact_sheet, stacked

if TYPE_CHECKING:
    from PIL.Image import Image

    from library.grid.drawing import Drawn

PLACEHOLDER_SIZE = 512  # pixels; stands for the model's own size while only mistakes are looked for
TOKEN_LENGTHS = (75, 150, 225)
EXAMPLE = (
    'python tools/xyz_grid.py --model demo/model --lora demo.safetensors --prompt "sks creature" '
    "--x strength=0,0.5,1 --y seed=1,2,3 --output grid.png"
)
AXIS_HELP = (
    f"KIND=VALUE,VALUE; KIND is one of {', '.join(KINDS)}. lora takes files, patterns such as out/demo-*.safetensors "
    f"and {NONE}; epoch those that a training of --lora saved on its way, and {LAST}; strength is that of the first "
    "LoRA; prompt puts each value in the place of the first"
)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings, each checked; InputError names every mistake."""
    parser = argument_parser("Draw one prompt over two or three axes, as one picture and one page.", EXAMPLE)
    add = parser.add_argument
    add("--model", required=True, help="base model: diffusers folder, hub id, .safetensors or .ckpt")
    add("--vae", help="another model, or a VAE, that decodes the pictures")
    add("--lora", nargs="+", action="extend", default=[], metavar="FILE:STRENGTH", help="LoRA files, all at once")
    add("--prompt", required=True, help="what to draw")
    add("--negative", default="", help="what not to draw")
    add("--x", required=True, metavar="AXIS", help=f"across: {AXIS_HELP}")
    add("--y", required=True, metavar="AXIS", help="down, in the same form")
    add("--z", metavar="AXIS", help="one grid below the other, in the same form")
    add("--seed", type=int, default=0, help="the same seed gives the same picture on every device")
    add("--steps", type=int, default=30, help="denoising steps")
    add("--guidance", type=float, default=7.5, help="classifier-free guidance; 1 is none")
    add("--sampler", default="ddim", help="as for tools/generate.py")
    add("--width", type=int, help="in pixels, a multiple of 8; by default what the model was made for")
    add("--height", type=int, help="in pixels, a multiple of 8; by default what the model was made for")
    add("--clip_skip", type=int, help="read the text encoder's n-th last layer")
    add("--max_token_length", type=int, default=75, choices=TOKEN_LENGTHS, help="longer prompts are cut")
    add("--precision", choices=("no", "fp16", "bf16"), help="by default fp16 on CUDA, else no: float32")
    add("--output", required=True, type=Path, help="a .png file; the page gets its name with .html")
    add("--overwrite", action="store_true", help="replace picture and page if they are there")
    settings = parser.parse_args(argv)
    wrong: list[str] = []
    given = [found for text in settings.lora if (found := read_lora(text, "--lora", wrong))]
    wrong += [f"--lora {path}: weights of blocks have no place in a grid." for path, _, blocks in given if blocks]
    settings.lora = tuple((path, ratio) for path, ratio, _ in given)
    wrong += missing_files("--lora", [path for path, _ in settings.lora])
    wrong += wrong_output(settings.output, settings.overwrite, (".png",))
    if not wrong:
        wrong += wrong_output(settings.output.with_suffix(".html"), settings.overwrite, (".html",))
    if settings.clip_skip is not None and settings.clip_skip < 1:
        wrong.append(f"--clip_skip {settings.clip_skip} must be 1 or more; 1 is the last layer.")
    settings.axes = read_axes(settings, wrong)
    if wrong:
        raise InputError.of(wrong)
    return settings


def read_axes(settings: argparse.Namespace, wrong: list[str]) -> list[Axis]:
    """x, y and z; mistakes go into `wrong`."""
    axes = []
    for name in ("x", "y", "z"):
        if text := getattr(settings, name):
            try:
                axes.append(read_axis(text))
            except InputError as error:
                wrong += [f"--{name}: {sentence}" for sentence in error.sentences]
    kinds = {axis.kind for axis in axes}
    if "strength" in kinds and not settings.lora and "lora" not in kinds:
        wrong.append("the axis strength needs --lora, or an axis lora.")
    return axes


def specs_for(settings: argparse.Namespace, size: int) -> list[Spec]:
    """What each picture is drawn with, z the slowest and x the fastest; `size` is in pixels."""
    facts = {name: getattr(settings, name) for name in ("negative", "seed", "steps", "guidance", "sampler")}
    width, height = (size if side is None else side for side in (settings.width, settings.height))
    prompt = Prompt(settings.prompt, width=width, height=height, **facts)
    return specs_of(Spec(settings.model, settings.lora, prompt), settings.axes[::-1])


def lay_out(axes: Sequence[Axis], drawn: "Sequence[Drawn]") -> "Image":
    """The labelled picture: x across, y down, a grid for each value of z."""
    across, down = (axis.titles for axis in axes[:2])
    sheets = []
    for start in range(0, len(drawn), len(across) * len(down)):
        starts = range(start, start + len(across) * len(down), len(across))
        rows = [drawn[first : first + len(across)] for first in starts]
        pictures = [[each.picture for each in row] for row in rows]
        notes = [[f"{each.seconds:.2f} s" for each in row] for row in rows]
        sheets.append(contact_sheet(pictures, down, across, notes))
    return stacked(sheets, axes[2].titles) if len(axes) > 2 else sheets[0]


def facts_of(settings: argparse.Namespace, prompt: Prompt, drawn: "Sequence[Drawn]") -> list[tuple[str, str]]:
    """What all pictures have in common, for the head of the page."""
    kinds = {axis.kind for axis in settings.axes}
    numbers = {
        "steps": f"{prompt.steps} steps",
        "guidance": f"guidance {prompt.guidance:g}",
        "seed": f"seed {prompt.seed}",
    }
    words = {"sampler": prompt.sampler} | numbers
    loras = [path.name if "strength" in kinds else f"{path.name} x {strength:g}" for path, strength in settings.lora]
    return [
        ("model", "" if "model" in kinds else settings.model),
        ("LoRA", ", ".join(loras)),
        ("negative", settings.negative),
        ("size", f"{prompt.width} x {prompt.height}"),
        ("drawn with", ", ".join(word for kind, word in words.items() if kind not in kinds)),
        ("pictures", f"{len(drawn)} in {sum(each.seconds for each in drawn):.1f} s"),
    ]


def write(settings: argparse.Namespace, specs: Sequence[Spec], drawn: "Sequence[Drawn]") -> None:
    """The picture and the page."""
    from library.files import write_atomically
    from library.grid.page import Shown, page
    from library.models.drawing import save_png

    def words(spec: Spec) -> str:
        loras = [(path.stem, strength) for path, strength in spec.loras]
        return webui_text(spec.prompt, Path(spec.model).stem, settings.clip_skip or 1, loras)

    shown = [Shown(each.picture, each.seconds, words(specs[each.number])) for each in drawn]
    text = page(settings.prompt, facts_of(settings, specs[0].prompt, drawn), settings.axes, shown)
    save_png(settings.output, lay_out(settings.axes, drawn), words(specs[0]))
    file = settings.output.with_suffix(".html")
    write_atomically(file, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
    say(f"written: {settings.output} and {file.name}, {len(drawn)} pictures in {sum(d.seconds for d in drawn):.1f} s")


def main() -> int:
    """Check everything, draw all pictures, and write the picture and the page."""
    settings = parse_arguments()
    checked = specs_for(settings, PLACEHOLDER_SIZE)  # mistakes are said at once, before torch is imported

    from library.grid.drawing import Manner, draw_all
    from library.models.family import open_family

    families = {model: open_family(model, settings.vae) for model in dict.fromkeys(spec.model for spec in checked)}
    size = max(family.default_size for family in families.values())
    specs = specs_for(settings, size)
    manner = Manner(settings.precision, settings.clip_skip, settings.max_token_length)
    drawn = sorted(draw_all(specs, families, manner), key=lambda each: each.number)
    write(settings, specs, drawn)
    return 0


if __name__ == "__main__":
    run_program(main)
