"""What a drawn picture tells of itself: its prompt, and the checkpoint that drew it. Imports nothing heavy."""

import re
from dataclasses import dataclass
from pathlib import Path

from library.models.parameters import parse_parameters

LORA = re.compile(r"<lora:([^:>]+)(?::([^>]*))?>")
PREVIEW = re.compile(r"(.+)_(e\d{6,}|s?\d{6,})_\d{2,}_\d+")  # as training names its previews


@dataclass(frozen=True)
class Told:
    """The words that a picture was drawn from, without LoRAs, and what it was drawn by; None where it is not said."""

    prompt: str | None = None
    checkpoint: str | None = None


def read_parameters(text: str) -> Told:
    """What AUTOMATIC1111's "parameters" say, which generate.py and the previews write too."""
    found = parse_parameters(text)
    loras = [f"{name} x {strength}" if strength else name for name, strength in LORA.findall(found.text)]
    prompt = " ".join(LORA.sub("", found.text).split())
    return Told(prompt or None, " + ".join(loras) or found.entries.get("Model"))


def told_of(path: Path, parameters: str | None, default: str | None = None) -> Told:
    """What is known of a picture: by its parameters, its name, a text file beside it, its folder, in this order.

    Args:
        parameters: the text of that name in the file, if it has one
        default: the prompt of pictures that do not tell theirs
    """
    told = read_parameters(parameters) if parameters else Told()
    beside = path.with_suffix(".txt")
    prompt = told.prompt
    if prompt is None and beside.is_file():
        prompt = " ".join(beside.read_text(encoding="utf-8", errors="replace").split()) or None
    preview = PREVIEW.fullmatch(path.stem)
    epoch = f"{preview[1]} {preview[2]}" if preview else None
    has_loras = bool(parameters and LORA.search(parameters))
    checkpoint = told.checkpoint if has_loras or not epoch else epoch
    return Told(prompt or default, checkpoint or path.absolute().parent.name)
