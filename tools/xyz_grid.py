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

from library.cli import argument_parser, run_program, wrong_output
from library.errors import InputError
from library.grid.axes import KINDS, LAST, NONE, Axis, Spec, read_axis, specs_of, with_tagged
from library.log import say
from library.models.asked import add_options, option_mistakes
from library.models.parameters import webui_text
from library.models.prompts import Prompt
from library.sheet import contact_sheet, stacked

if TYPE_CHECKING:
    from PIL.Image import Image

    from library.grid.drawing import Drawn

PLACEHOLDER_SIZE = 512  # pixels; stands for the model's own size while only mistakes are looked for
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
    add_options(parser)
    add("--prompt", required=True, help="what to draw, such as 'a (red:1.2) hat <lora:mine:0.8>'")
    add("--x", required=True, metavar="AXIS", help=f"across: {AXIS_HELP}")
    add("--y", required=True, metavar="AXIS", help="down, in the same form")
    add("--z", metavar="AXIS", help="one grid below the other, in the same form")
    add("--output", required=True, type=Path, help="a .png file; the page gets its name with .html")
    settings = parser.parse_args(argv)
    wrong = option_mistakes(settings)
    settings.lora = tuple((lora.path, lora.factor) for lora in settings.lora)
    wrong += wrong_output(settings.output, settings.overwrite, (".png",))
    if not wrong:
        wrong += wrong_output(settings.output.with_suffix(".html"), settings.overwrite, (".html",))
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
    specs = specs_of(Spec(settings.model, settings.lora, prompt), settings.axes[::-1])
    return with_tagged(specs, settings.lora_dir)


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
    from library.models.made_by import with_tags

    def words(spec: Spec) -> str:
        prompt = with_tags(spec.prompt, spec.loras)
        return webui_text(prompt, Path(spec.model).stem, settings.clip_skip or 1)

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
