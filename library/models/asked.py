"""LoRAs, learned words and columns of a sheet, as people name them on the command line. Imports nothing heavy."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image

from library import samplers
from library.adapters.given import read_number, split_file
from library.cli import missing_files
from library.models.grammar import read_tags
from library.models.prompts import Prompt
from library.sheet import contact_sheet

TOKEN_LENGTHS = (75, 150, 225)
# What every program that draws can be told.
OPTIONS: dict[str, dict[str, Any]] = {
    "--model": {"required": True, "help": "base model: diffusers folder, hub id, .safetensors or .ckpt"},
    "--vae": {"help": "another model, or a VAE, that decodes the pictures"},
    "--lora_dir": {"type": Path, "help": "where files are that prompts name as <lora:NAME:0.8>: --lora_dir output"},
    "--negative": {"default": "", "help": "what not to draw: 'blurry, dark'"},
    "--seed": {"type": int, "default": 0, "help": "the same seed gives the same picture on every device"},
    "--steps": {"type": int, "default": 30, "help": "denoising steps"},
    "--guidance": {"type": float, "default": 7.5, "help": "classifier-free guidance; 1 is none"},
    "--sampler": {"default": "ddim", "help": ", ".join(samplers.NAMES) + "; names such as 'DPM++ 2M Karras' too"},
    "--width": {"type": int, "help": "in pixels, a multiple of 8; by default what the model was made for"},
    "--height": {"type": int, "help": "in pixels, a multiple of 8; by default what the model was made for"},
    "--clip_skip": {"type": int, "help": "read the text encoder's n-th last layer: 2 for many anime models"},
    "--max_token_length": {"type": int, "choices": TOKEN_LENGTHS, "help": "cuts prompts; by default all is read"},
    "--precision": {"choices": ("no", "fp16", "bf16"), "help": "by default fp16 on CUDA, else no: float32"},
    "--overwrite": {"action": "store_true", "help": "replaces pictures that are there"},
}


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


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every program that draws can be told, LoRAs with their strengths among it."""
    for name, facts in OPTIONS.items():
        parser.add_argument(name, **facts)
    about = "LoRAs or hypernetworks, with their strengths if not 1"
    lists: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    parser.add_argument("--lora", type=read_lora, metavar="FILE:STRENGTH", help=about, **lists)


def option_mistakes(settings: argparse.Namespace) -> list[str]:
    """A sentence for each of them that is wrong by itself."""
    wrong = missing_files("--lora", [lora.path for lora in settings.lora])
    if settings.clip_skip is not None and settings.clip_skip < 1:
        wrong.append(f"--clip_skip {settings.clip_skip} must be 1 or more; 1 is the last layer.")
    if settings.lora_dir and not settings.lora_dir.is_dir():
        wrong.append(f"--lora_dir {settings.lora_dir}: there is no such folder.")
    return wrong


def read_lora(text: str) -> Lora:
    """A LoRA from `FILE` or `FILE:STRENGTH`."""
    path, words = split_file(text, 2)
    try:
        return Lora(path, read_number(":".join(words)) if words else None)
    except ValueError:
        message = f"the strength {':'.join(words)!r} of {path} is no number"
        raise argparse.ArgumentTypeError(message) from None


def read_word(text: str) -> Word:
    """A learned word from `FILE` or `FILE:WORD`."""
    path, words = split_file(text)
    return Word(path, *words)


def read_strengths(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    try:
        return tuple(read_number(word) for word in text.split(","))
    except ValueError:
        message = f"strengths are numbers with commas between them, such as 0,0.5,1, not {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def columns_of(loras: Sequence[Lora], strengths: Sequence[float] | None, compare: bool) -> list[Column]:
    """The columns of a sheet: strengths of one LoRA, LoRAs beside the base, or all LoRAs together."""
    if strengths:
        return [Column(f"strength {each:g}", (Lora(loras[0].path, each),)) for each in strengths]
    if compare:
        return [Column("base model"), *(Column(title_of(lora), (lora,)) for lora in loras)]
    return [Column(" + ".join(title_of(lora) for lora in loras) or "base model", tuple(loras))]


def title_of(lora: Lora) -> str:
    """A LoRA's name, and its strength where that was named."""
    return lora.path.stem if lora.strength is None else f"{lora.path.stem} : {lora.strength:g}"


def worn_in(prompt: Prompt, column: Column, tagged: Mapping[str, Path]) -> tuple[Lora, ...]:
    """The LoRAs that a picture is drawn with: those its prompt names, and those of its column that it does not."""
    tags = read_tags(prompt.text)[1]
    named = tuple(Lora(tagged[tag.name], tag.strength) for tag in tags)
    return named + tuple(lora for lora in column.loras if lora.path.stem not in {tag.name for tag in tags})


def lay_out(pictures: Sequence[Image], columns: Sequence[Column], prompts: Sequence[Prompt], number: int) -> Image:
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
