"""Draw pictures from a base model, with any number of LoRAs; as files, or as one labelled contact sheet.

python tools/generate.py --model demo/model --lora my.safetensors:0.8 --prompt "sks creature" --output out.png
python tools/generate.py --model demo/model --lora my.safetensors --prompts_file prompts.txt \
    --sheet sheet.png --strengths 0,0.5,1
python tools/generate.py --model demo/model --embedding my.safetensors --prompt "a <my-creature>" --output out.png
"""

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library import lookup
from library.cli import argument_parser, run_program
from library.errors import InputError
from library.log import say, warn
from library.models.prompts import Prompt, read_prompts, webui_text
from library.sheet import contact_sheet

if TYPE_CHECKING:
    from library.models.embeddings import Embedding
    from library.models.family import Family

PLACEHOLDER_SIZE = 512  # pixels; stands for the model's own size while only mistakes are looked for
TOKEN_LENGTHS = (75, 150, 225)
LORA_HELP = "LoRA files, with their strengths if not 1; all at once, unless --compare is given"
EMBEDDING_HELP = "files of learned words; WORD is what prompts call one, if not what its file says"


@dataclass(frozen=True)
class Word:
    """A file of a learned word, and what prompts are to call it; None means as the file says."""

    path: Path
    name: str | None = None


@dataclass(frozen=True)
class Lora:
    """A LoRA file and the strength that was asked for; None if none was named, which means 1."""

    path: Path
    strength: float | None = None

    @property
    def factor(self) -> float:
        """What the LoRA's change of the model is multiplied with."""
        return 1.0 if self.strength is None else self.strength


@dataclass(frozen=True)
class Column:
    """What all pictures of one column of the sheet are drawn with."""

    title: str
    loras: tuple[Lora, ...] = ()


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written, each checked by itself."""
    parser = argument_parser("Draw pictures from a base model, with any number of LoRAs.")
    add = parser.add_argument
    add("--model", required=True, help="base model: diffusers folder, hub id, .safetensors or .ckpt")
    add("--vae", help="another model, or a VAE, that decodes the pictures")
    lists = {"nargs": "+", "action": "extend", "default": []}
    add("--lora", type=read_lora, metavar="FILE:STRENGTH", help=LORA_HELP, **lists)
    add("--embedding", type=read_word, metavar="FILE:WORD", help=EMBEDDING_HELP, **lists)
    add("--prompt", action="append", default=[], help="what to draw; may be given several times")
    add("--prompts_file", type=Path, help="prompts in .txt (with sd-scripts' line flags), .toml or .json")
    add("--negative", default="", help="what not to draw")
    add("--seed", type=int, default=0, help="the same seed gives the same picture on every device")
    add("--steps", type=int, default=30, help="denoising steps")
    add("--guidance", type=float, default=7.5, help="classifier-free guidance; 1 is none")
    add("--sampler", default="ddim", help=", ".join(lookup.SAMPLERS))
    add("--width", type=int, help="in pixels, a multiple of 8; by default what the model was made for")
    add("--height", type=int, help="in pixels, a multiple of 8; by default what the model was made for")
    add("--clip_skip", type=int, help="read the text encoder's n-th last layer")
    add("--max_token_length", type=int, default=75, choices=TOKEN_LENGTHS, help="longer prompts are cut")
    add("--precision", choices=("no", "fp16", "bf16"), help="by default fp16 on CUDA, else no: float32")
    add("--number", type=int, default=1, help="pictures of each prompt, with seeds counted up from its own")
    add("--output", type=read_output, help="a .png file; several become out_01.png, out_02.png ...")
    add("--sheet", type=read_output, help="a .png file: all pictures in one, prompts down")
    across = parser.add_mutually_exclusive_group()
    across.add_argument("--strengths", type=read_strengths, help="strengths of the LoRA across: 0,0.5,1")
    across.add_argument("--compare", action="store_true", help="the base model, then each --lora, across")
    return parser.parse_args(argv)


def read_lora(text: str) -> Lora:
    """A LoRA from `FILE` or `FILE:STRENGTH`; a colon inside the name of an existing file is left there."""
    name, colon, strength = text.rpartition(":")
    if Path(text).is_file() or not colon:
        return Lora(Path(text))
    try:
        return Lora(Path(name), read_number(strength))
    except ValueError:
        if Path(name).is_file():
            message = f"the strength {strength!r} of {name} is no number"
            raise argparse.ArgumentTypeError(message) from None
        return Lora(Path(text))


def read_word(text: str) -> Word:
    """A learned word from `FILE` or `FILE:WORD`; a colon inside the name of an existing file is left there."""
    name, _, word = text.rpartition(":")
    return Word(Path(name), word) if Path(name).is_file() and not Path(text).is_file() else Word(Path(text))


def read_number(text: str) -> float:
    """A number that is neither infinite nor not-a-number; ValueError otherwise."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def read_strengths(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(read_number(word) for word in text.split(","))
    except ValueError:
        message = f"strengths are numbers with commas between them, such as 0,0.5,1, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def read_output(text: str) -> Path:
    """A .png path in a folder that is there and can be written, or can be made."""
    path = Path(text)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"pictures are written as .png files, not {text!r}")
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path


def check(settings: argparse.Namespace) -> None:
    """InputError naming every setting that does not go with the others."""
    missing = [lora.path for lora in settings.lora if not lora.path.is_file()]
    wrong = [f"--lora {path}: there is no such file." for path in missing]
    gone = [word.path for word in settings.embedding if not word.path.is_file()]
    wrong += [f"--embedding {path}: there is no such file." for path in gone]
    if not settings.prompt and not settings.prompts_file:
        wrong.append("there is nothing to draw; give --prompt or --prompts_file.")
    if not settings.output and not settings.sheet:
        wrong.append("the pictures have no place to go; give --output FILE.png or --sheet FILE.png.")
    if settings.number < 1:
        wrong.append(f"--number {settings.number} must be 1 or more.")
    if settings.clip_skip is not None and settings.clip_skip < 1:
        wrong.append(f"--clip_skip {settings.clip_skip} must be 1 or more; 1 is the last layer.")
    if (settings.strengths or settings.compare) and not settings.sheet:
        wrong.append("--strengths and --compare are the columns of a sheet; give --sheet FILE.png too.")
    if settings.compare and not settings.lora:
        wrong.append("--compare needs one --lora or more.")
    if settings.strengths and (len(settings.lora) != 1 or settings.lora[0].strength is not None):
        wrong.append("--strengths needs exactly one --lora, given without a strength of its own.")
    if wrong:
        raise InputError(*wrong)


def columns_of(settings: argparse.Namespace) -> list[Column]:
    """The columns of the sheet: strengths, LoRA files beside the base, or all LoRAs together."""
    loras = tuple(settings.lora)
    if settings.strengths:
        return [Column(f"strength {each:g}", (Lora(loras[0].path, each),)) for each in settings.strengths]
    if settings.compare:
        return [Column("base model"), *(Column(title_of(lora), (lora,)) for lora in loras)]
    return [Column(" + ".join(title_of(lora) for lora in loras) or "base model", loras)]


def title_of(lora: Lora) -> str:
    """A LoRA's name, and its strength where that was named."""
    return lora.path.stem if lora.strength is None else f"{lora.path.stem} : {lora.strength:g}"


def prompts_of(settings: argparse.Namespace, size: int) -> list[Prompt]:
    """All that is to be drawn, each prompt `number` times with seeds counted up; `size` is in pixels."""
    facts = {name: getattr(settings, name) for name in ("negative", "seed", "steps", "guidance", "sampler")}
    width, height = (size if side is None else side for side in (settings.width, settings.height))
    defaults = Prompt("", width=width, height=height, **facts)
    prompts = [replace(defaults, text=text) for text in settings.prompt]
    if settings.prompts_file:
        prompts += read_prompts(settings.prompts_file, defaults)
    counts = range(settings.number)
    return [replace(prompt, seed=prompt.seed + count) for prompt in prompts for count in counts]


def read_words(settings: argparse.Namespace, family: "Family", prompts: Sequence[Prompt]) -> list["Embedding"]:
    """The learned words, which the family's tokenizers know from now on; says what prompts call them."""
    from library.models.embeddings import read_embedding

    found = [read_embedding(word.path, word.name) for word in settings.embedding]
    texts = [text.lower() for prompt in prompts for text in (prompt.text, prompt.negative)]
    for embedding in found:
        try:
            family.add_word(embedding.word, embedding.count)
        except InputError as error:
            raise InputError(f"{embedding.name}: {error} Give it as FILE:WORD.") from None
        say(f"{embedding.name} is {embedding.word} in prompts.")
        if not any(embedding.word.lower() in text for text in texts):
            warn(f"no prompt has {embedding.word} in it, so {embedding.name} changes nothing.")
    return found


def draw(
    settings: argparse.Namespace,
    family: "Family",
    columns: Sequence[Column],
    prompts: Sequence[Prompt],
    words: Sequence["Embedding"],
) -> Iterator[tuple[int, int, Image]]:
    """Row, column and picture of each, column by column, so that the LoRAs of a column are put on once.

    Raises InputError before the first picture if any of the LoRAs or learned words does not fit the model.
    """
    import torch

    from library.adapters.merged import load_adapters
    from library.device import start_compute
    from library.models.drawing import Painter
    from library.models.embeddings import put_on

    compute = start_compute(settings.precision or "no")
    is_fast_in_half = settings.precision is None and compute.device.type == "cuda"
    dtype = torch.float16 if is_fast_in_half else compute.dtype
    encoders = [encoder.to(compute.device) for encoder in family.load_text_encoders(dtype)]
    unet, vae = family.load_unet(dtype).to(compute.device), family.load_vae(torch.float32).to(compute.device)
    readers = dict(zip(family.text_parts, encoders, strict=True))
    for embedding in words:
        put_on(readers, embedding)
    modules = {"unet": unet, **readers}
    layers = {part: family.adapter_layers(module, part) for part, module in modules.items()}
    load_adapters([(lora.path, 0.0) for lora in settings.lora], modules, layers)  # strength 0: only a check
    painter = Painter(family, vae, encoders, unet)
    for number, column in enumerate(columns):
        merged = load_adapters([(lora.path, lora.factor) for lora in column.loras], modules, layers)
        for row, prompt in enumerate(prompts):
            picture = painter.draw(
                prompt, None, settings.clip_skip, compute.device, dtype, settings.max_token_length
            )
            yield row, number, picture
        merged.restore()


def lay_out(
    pictures: Sequence[Image], columns: Sequence[Column], prompts: Sequence[Prompt], number: int
) -> Image:
    """The sheet of all pictures, given row by row: prompts down; across are the columns.

    Where there is one column only, the `number` seeds of each prompt stand across instead.
    """
    seeds_across = number if len(columns) == 1 else 1
    width = len(columns) * seeds_across
    rows = [pictures[start : start + width] for start in range(0, len(pictures), width)]
    labels = [prompt.text or "(no words)" for prompt in prompts[::seeds_across]]
    titles = [column.title for column in columns]
    if seeds_across > 1:
        is_same = len({prompt.seed for prompt in prompts[::number]}) == 1
        titles = [f"seed {prompts[0].seed + n}" if is_same else f"picture {n + 1}" for n in range(number)]
    elif number > 1:
        labels = [f"{label} (seed {prompt.seed})" for label, prompt in zip(labels, prompts, strict=True)]
    return contact_sheet(rows, labels, titles)


def numbered(path: Path, number: int, count: int) -> Path:
    """The file of picture `number` (from 0) of `count`: the path itself, or with _01, _02 ... in it."""
    if count == 1:
        return path
    digits = max(2, len(str(count)))
    return path.with_name(f"{path.stem}_{number + 1:0{digits}d}{path.suffix}")


def save_picture(path: Path, picture: Image, text: str = "") -> None:
    """Write a PNG, whole or not at all; `text` tells web UIs how the picture was made."""
    from library.files import write_atomically

    facts = PngInfo()
    if text:
        facts.add_text("parameters", text)
    write_atomically(path, lambda unfinished: picture.save(unfinished, format="PNG", pnginfo=facts))


def warn_of_cuts(family: "Family", prompts: Sequence[Prompt], longest: int) -> None:
    """Say which prompts are longer than the text encoder is to read."""
    for text in dict.fromkeys(words for prompt in prompts for words in (prompt.text, prompt.negative)):
        count = family.token_count(text)
        if count > longest:
            warn(f"{text[:40]!r}... has {count} tokens, {longest} are read (--max_token_length).")


def main() -> int:
    """Check everything, open the model, draw, and write each picture as soon as it is drawn."""
    settings = parse_arguments()
    check(settings)
    prompts_of(settings, PLACEHOLDER_SIZE)  # mistakes are said at once, before torch is imported

    from library.models.family import open_family

    family = open_family(settings.model, settings.vae)
    prompts, columns = prompts_of(settings, family.default_size), columns_of(settings)
    words = read_words(settings, family, prompts)
    warn_of_cuts(family, prompts, settings.max_token_length)
    model = family.base_name.removesuffix(".safetensors").removesuffix(".ckpt")
    count = len(prompts) * len(columns)
    pictures: dict[int, Image] = {}
    for row, column, picture in draw(settings, family, columns, prompts, words):
        place = row * len(columns) + column
        pictures[place] = picture
        say(f"picture {len(pictures)} of {count}: {prompts[row].text} (seed {prompts[row].seed})")
        if settings.output:
            loras = [(lora.path.stem, lora.factor) for lora in columns[column].loras]
            text = webui_text(prompts[row], model, settings.clip_skip or 1, loras)
            save_picture(numbered(settings.output, place, count), picture, text)
    if settings.output:
        ends = dict.fromkeys(str(numbered(settings.output, place, count)) for place in (0, count - 1))
        say("written:", " ... ".join(ends))
    if settings.sheet:
        in_order = [pictures[place] for place in range(count)]
        save_picture(settings.sheet, lay_out(in_order, columns, prompts, settings.number))
        say("written:", settings.sheet)
    return 0


if __name__ == "__main__":
    run_program(main)
