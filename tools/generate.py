"""Draw pictures from a base model, with any number of LoRAs; as files, or as one labelled contact sheet.

python tools/generate.py --model demo/model --lora my.safetensors:0.8 --prompt "sks creature" --output out.png
python tools/generate.py --model demo/model --lora my.safetensors --prompts_file prompts.txt \
    --sheet sheet.png --strengths 0,0.5,1
python tools/generate.py --model demo/model --lora_dir output --prompt "a (red:1.3) hat <lora:my:0.8>" --output out.png
python tools/generate.py --model demo/model --lora_dir output --like out.png --seed 5 --output another.png
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from library.cli import argument_parser, missing_files, run_program, wrong_output
from library.errors import InputError
from library.files import default_cache
from library.log import say, warn
from library.models.asked import (
    Column,
    Lora,
    add_options,
    columns_of,
    lay_out,
    option_mistakes,
    read_strengths,
    read_word,
    worn_in,
)
from library.models.editing import at_steps
from library.models.grammar import find_tagged, read_tags
from library.models.parameters import AUTO_V2, hashes_entry, read_parameters, repeated, webui_text
from library.models.prompts import PIXEL_STEP, Prompt, read_prompts

if TYPE_CHECKING:
    from library.models.embeddings import Embedding
    from library.models.family import Family
    from library.models.studio import Studio

PLACEHOLDER_SIZE = 512  # pixels; stands for the model's own size while only mistakes are looked for
CHUNK = 75  # tokens that the text encoders read at once
STRENGTH = 0.6  # of --init, if none is given
EXAMPLE = 'python tools/generate.py --model demo/model --prompt "a (red:1.3) creature" --sampler "dpm++ 2m karras" '
WORD_HELP = "files of learned words; WORD is what prompts call one, if not what its file says"
OPTIONS: dict[str, dict[str, Any]] = {
    "--prompt": {"action": "append", "default": [], "help": "what to draw, such as 'a (red:1.2) hat AND a dog'"},
    "--prompts_file": {"type": Path, "help": "prompts in .txt (with sd-scripts' line flags), .toml or .json"},
    "--like": {"type": Path, "help": "a PNG of this program or a web UI, drawn again where nothing else is said"},
    "--init": {"type": Path, "help": "a picture to begin with instead of noise: --init sketch.png --strength 0.6"},
    "--strength": {"type": float, "default": STRENGTH, "help": "how much of --init is redrawn, above 0 to 1"},
    "--number": {"type": int, "default": 1, "help": "pictures of each prompt, with seeds counted up from its own"},
    "--batch_size": {"type": int, "default": 1, "help": "how many are drawn at once: --number 8 --batch_size 4"},
    "--low_memory": {"action": "store_true", "help": "each part of the model is on the GPU only while it works"},
    "--compile": {"action": "store_true", "help": "compiles the UNet, which pays for many pictures"},
    "--output": {"type": Path, "help": "a .png file; several become out_01.png, out_02.png ..."},
    "--sheet": {"type": Path, "help": "a .png file: all pictures in one, prompts down"},
}  # fmt: skip


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The settings as written, each checked by itself; those of --like where they are not written."""
    parser = argument_parser("Draw pictures from a base model, with any number of LoRAs.", EXAMPLE + "--output out.png")
    lists = {"nargs": "+", "action": "extend", "default": []}
    add_options(parser)
    for name, facts in OPTIONS.items():
        parser.add_argument(name, **facts)
    parser.add_argument("--embedding", type=read_word, metavar="FILE:WORD", help=WORD_HELP, **lists)
    across = parser.add_mutually_exclusive_group()
    across.add_argument("--strengths", type=read_strengths, help="strengths of the LoRA across: 0,0.5,1")
    across.add_argument("--compare", action="store_true", help="the base model, then each --lora, across")
    settings = parser.parse_args(argv)
    if settings.like:
        said = read_parameters(settings.like)
        parser.set_defaults(**repeated(said, str(settings.like)))
        settings = parser.parse_args(argv)
        settings.prompt = settings.prompt or ([] if settings.prompts_file else [said.text])
    return settings


def check(settings: argparse.Namespace) -> None:
    """InputError naming every setting that does not go with the others."""
    wrong = option_mistakes(settings)
    wrong += missing_files("--embedding", [word.path for word in settings.embedding])
    if not settings.prompt and not settings.prompts_file:
        wrong.append("there is nothing to draw; give --prompt, --prompts_file or --like.")
    if not settings.output and not settings.sheet:
        wrong.append("the pictures have no place to go; give --output FILE.png or --sheet FILE.png.")
    for name in ("number", "batch_size"):
        if (value := getattr(settings, name)) < 1:
            wrong.append(f"--{name} {value} must be 1 or more.")
    if not 0 < settings.strength <= 1:
        wrong.append(f"--strength {settings.strength} is not above 0 and at most 1.")
    if (settings.strengths or settings.compare) and not settings.sheet:
        wrong.append("--strengths and --compare are the columns of a sheet; give --sheet FILE.png too.")
    if settings.compare and not settings.lora:
        wrong.append("--compare needs one --lora or more.")
    if settings.strengths and (len(settings.lora) != 1 or settings.lora[0].strength is not None):
        wrong.append("--strengths needs exactly one --lora, given without a strength of its own.")
    if wrong:
        raise InputError(*wrong)


def check_outputs(settings: argparse.Namespace, count: int) -> None:
    """InputError for each file that cannot be written, or must not be."""
    paths = [numbered(settings.output, number, count) for number in range(count)] if settings.output else []
    paths += [settings.sheet] if settings.sheet else []
    if wrong := [words for path in paths for words in wrong_output(path, settings.overwrite, (".png",))]:
        raise InputError(*wrong)


def open_start(path: Path | None) -> Image | None:
    """The picture of --init, as it is meant to be seen."""
    if path is None:
        return None
    from library.data.decoding import read_picture

    if not os.path.isfile(path):
        raise InputError(f"--init {path} cannot be read: there is no such file.")
    try:
        return read_picture(path)
    except (OSError, ValueError) as error:
        raise InputError(f"--init {path} cannot be read: {error}.") from None


def prompts_of(settings: argparse.Namespace, size: tuple[int, int]) -> list[Prompt]:
    """All that is to be drawn, each prompt `number` times with seeds counted up; `size` is in pixels."""
    facts = {name: getattr(settings, name) for name in ("negative", "seed", "steps", "guidance", "sampler")}
    given = (settings.width, settings.height)
    width, height = (usual if side is None else side for side, usual in zip(given, size, strict=True))
    defaults = Prompt("", width=width, height=height, **facts)
    prompts = [replace(defaults, text=text) for text in settings.prompt]
    if settings.prompts_file:
        prompts += read_prompts(settings.prompts_file, defaults)
    counts = range(settings.number)
    return [replace(prompt, seed=prompt.seed + count) for prompt in prompts for count in counts]


def find_files(settings: argparse.Namespace, prompts: Sequence[Prompt]) -> dict[str, Path]:
    """The files of all LoRAs that prompts name."""
    tags = [tag for prompt in prompts for tag in read_tags(prompt.text)[1]]
    twice = {tag.name for tag in tags} & {lora.path.stem for lora in settings.lora}
    if twice and (settings.strengths or settings.compare):
        raise InputError(f"take <lora:{min(twice)}> out of the prompt: its strengths are the columns of the sheet.")
    return find_tagged(tags, settings.lora_dir, [lora.path for lora in settings.lora])


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


def warn_of_cuts(family: "Family", prompts: Sequence[Prompt], longest: int | None) -> None:
    """Say which prompts are longer than the text encoder is to read."""
    both = [(words, prompt.steps) for prompt in prompts for words in (prompt.text, prompt.negative)]
    for text, steps in dict.fromkeys(both):
        chunks = max(family.chunk_count(said) for said in set(at_steps(read_tags(text)[0], steps)))
        if longest and chunks * CHUNK > longest:
            warn(f"{text[:40]!r}... takes {chunks} times {CHUNK} tokens, {longest} are read (--max_token_length).")


def draw(
    settings: argparse.Namespace,
    studio: "Studio",
    prompts: Sequence[Prompt],
    columns: Sequence[Column],
    tagged: Mapping[str, Path],
) -> Iterator[tuple[int, tuple[Lora, ...], Image]]:
    """The place of each picture on the sheet, row by row, its LoRAs and itself; those of the same LoRAs together.

    Raises InputError before the first picture if any of the LoRAs does not fit the model.
    """
    from library.models.drawing import Start

    init = open_start(settings.init)
    start = Start(init, settings.strength) if init else None
    wanted = [
        (worn_in(prompt, column, tagged), row * len(columns) + number, prompt)
        for number, column in enumerate(columns)
        for row, prompt in enumerate(prompts)
    ]
    studio.check(list(dict.fromkeys(lora.path for loras, _, _ in wanted for lora in loras)))
    for loras, group in groupby(wanted, key=lambda each: each[0]):
        _, places, chosen = zip(*group, strict=True)
        worn = [(lora.path, lora.factor) for lora in loras]
        for index, picture in studio.draw(chosen, worn, settings.clip_skip, settings.max_token_length, start):
            yield places[index], loras, picture


def hashes_of(settings: argparse.Namespace, words: Sequence["Embedding"], loras: Sequence[Lora]) -> dict[str, str]:
    """What a picture says of the files that it was made by."""
    from library.models.made_by import lora_sha256, model_sha256, word_sha256

    cache = default_cache()
    named = {lora.path.stem: lora_sha256(lora.path, cache) for lora in loras}
    learned = {embedding.word: word_sha256(Path(embedding.name), cache) for embedding in words}
    return {
        "Model hash": model_sha256(settings.model, cache)[:AUTO_V2],
        "Denoising strength": f"{settings.strength:g}" if settings.init else "",
        "Lora hashes": hashes_entry(named),
        "TI hashes": hashes_entry(learned),
    }


def numbered(path: Path, number: int, count: int) -> Path:
    """The file of picture `number` (from 0) of `count`: the path itself, or with _01, _02 ... in it."""
    if count == 1:
        return path
    digits = max(2, len(str(count)))
    return path.with_name(f"{path.stem}_{number + 1:0{digits}d}{path.suffix}")


def size_of(settings: argparse.Namespace, usual: int) -> tuple[int, int]:
    """Width and height in pixels where they are not given: those of --init but for a rest, or the model's own."""
    init = open_start(settings.init)
    if init is None:
        return usual, usual
    width, height = (max(PIXEL_STEP, side // PIXEL_STEP * PIXEL_STEP) for side in init.size)
    return width, height


def main() -> int:
    """Check everything, open the model, draw, and write each picture as soon as it is drawn."""
    settings = parse_arguments()
    check(settings)
    # Mistakes are said at once, before torch is imported.
    prompts = prompts_of(settings, size_of(settings, PLACEHOLDER_SIZE))
    columns = columns_of(settings.lora, settings.strengths, settings.compare)
    tagged, count = find_files(settings, prompts), len(prompts) * len(columns)
    check_outputs(settings, count)

    from library.models.drawing import save_png
    from library.models.family import open_family
    from library.models.made_by import with_tags
    from library.models.studio import Studio, Ways

    family = open_family(settings.model, settings.vae)
    prompts = prompts_of(settings, size_of(settings, family.default_size))
    words = read_words(settings, family, prompts)
    warn_of_cuts(family, prompts, settings.max_token_length)
    model = family.base_name.removesuffix(".safetensors").removesuffix(".ckpt")
    studio = Studio(family, Ways(settings.precision, settings.low_memory, settings.compile, settings.batch_size), words)
    pictures: dict[int, Image] = {}
    for place, loras, picture in draw(settings, studio, prompts, columns, tagged):
        pictures[place], prompt = picture, prompts[place // len(columns)]
        say(f"picture {len(pictures)} of {count}: {prompt.text} (seed {prompt.seed})")
        if settings.output:
            more = hashes_of(settings, words, loras)
            tagged_prompt = with_tags(prompt, [(lora.path, lora.factor) for lora in loras])
            text = webui_text(tagged_prompt, model, settings.clip_skip or 1, more)
            save_png(numbered(settings.output, place, count), picture, text)
    if settings.output:
        ends = dict.fromkeys(str(numbered(settings.output, place, count)) for place in (0, count - 1))
        say("written:", " ... ".join(ends))
    if settings.sheet:
        in_order = [pictures[place] for place in range(count)]
        save_png(settings.sheet, lay_out(in_order, columns, prompts, settings.number))
        say("written:", settings.sheet)
    return 0


if __name__ == "__main__":
    run_program(main)
