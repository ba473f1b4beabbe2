"""LoRAs, learned words and columns of a sheet, as people name them on the command line. Imports nothing heavy."""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from library.models.grammar import read_tags
from library.models.prompts import Prompt
from library.sheet import contact_sheet


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
