"""How a picture was made, as AUTOMATIC1111 writes it into a PNG's "parameters" and reads it there. Imports no torch."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from library.errors import InputError
from library.log import warn
from library.models.prompts import Prompt
from library.samplers import ENDING, LABELS, NAMES, find_sampler, split_name

NEGATIVE = "Negative prompt:"
# The web UI's order of the entries that are written here.
ORDER = (
    *("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model hash", "Model", "Denoising strength"),
    *("Clip skip", "Lora hashes", "TI hashes"),
)
ENTRY = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
LEAST_ENTRIES = 3  # a last line with fewer belongs to the prompt, as the web UI has it
AUTO_V2, AUTO_V3 = 10, 12  # digits that the web UI writes of a model's hash, and of a LoRA's

# The methods that the web UI lays as Karras does where "Schedule type" is Automatic or is not said.
USUALLY_KARRAS = ("dpm_2", "dpm_2_a", "dpmsolver++", "dpm++_sde", "dpm++_2s_a")
# What is said to be evenly spaced or of Karras, in small letters; others are not known here.
EVEN, KARRAS, AUTOMATIC = "uniform", "karras", "automatic"


@dataclass(frozen=True)
class Parameters:
    """What a picture says of itself: its words as written, with their tags, and the entries of its last line."""

    text: str
    negative: str
    entries: Mapping[str, str]


def webui_text(
    prompt: Prompt,
    model: str,
    clip_skip: int = 1,
    more: Mapping[str, str] | None = None,
) -> str:
    """How a picture was made, in the form that AUTOMATIC1111 keeps in a PNG's "parameters".

    `more` are other entries of ORDER.
    """
    method, is_karras = split_name(prompt.sampler)
    entries: dict[str, Any] = {
        "Steps": prompt.steps,
        "Sampler": LABELS[method],
        "CFG scale": f"{prompt.guidance:g}",
        "Seed": prompt.seed,
        "Size": f"{prompt.width}x{prompt.height}",
        "Model": model,
        **(more or {}),
    }
    if is_karras or method in USUALLY_KARRAS:
        entries["Schedule type"] = "Karras" if is_karras else "Uniform"
    if clip_skip > 1:
        entries["Clip skip"] = clip_skip
    line = ", ".join(f"{name}: {_quoted(str(entries[name]))}" for name in ORDER if entries.get(name) not in (None, ""))
    return "\n".join(filter(None, [prompt.text, f"{NEGATIVE} {prompt.negative}" if prompt.negative else "", line]))


def hashes_entry(hashes: Mapping[str, str]) -> str:
    """The entry of names and their hashes, which are cut to what the web UI writes of them."""
    return ", ".join(f"{name}: {digest[:AUTO_V3]}" for name, digest in hashes.items())


def parse_parameters(text: str) -> Parameters:
    """The parts of a text in that form, as the web UI takes it apart; without entries all is the prompt."""
    *lines, last = text.strip().split("\n")
    found = ENTRY.findall(last)
    if len(found) < LEAST_ENTRIES:
        lines, found = [*lines, last], []
    entries = {name: _unquoted(value.strip()) for name, value in found}
    start = next((number for number, line in enumerate(lines) if line.startswith(NEGATIVE)), len(lines))
    negative = "\n".join(lines[start:]).removeprefix(NEGATIVE)
    return Parameters("\n".join(lines[:start]).strip(), negative.strip(), entries)


def read_parameters(path: Path) -> Parameters:
    """What a PNG of a web UI or of ours says; InputError for other pictures and for those that say nothing."""
    if not os.path.isfile(path):
        raise InputError(f"{path} cannot be read as a picture (there is no such file).")
    try:
        with Image.open(path) as picture:
            text = picture.info.get("parameters")
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise InputError(f"{path} cannot be read as a picture ({type(error).__name__}).") from None
    if not isinstance(text, str) or not parse_parameters(text).entries:
        raise InputError(f"{path} does not say how it was made; only PNG files of the web UIs and of this program do.")
    return parse_parameters(text)


def repeated(parameters: Parameters, name: str) -> dict[str, Any]:
    """Options of tools/generate.py that draw a picture again; `name` is the picture's in messages.

    Raises InputError for an entry that is not what it should be, and for a sampler that there is not.
    """
    found: dict[str, Any] = {"negative": parameters.negative}
    kinds = {"steps": ("Steps", int), "guidance": ("CFG scale", float), "seed": ("Seed", int)}
    kinds |= {"clip_skip": ("Clip skip", int), "strength": ("Denoising strength", float)}
    entries = parameters.entries
    try:
        found |= {option: kind(entries[entry]) for option, (entry, kind) in kinds.items() if entry in entries}
        if "Size" in entries:
            found["width"], found["height"] = map(int, entries["Size"].split("x"))
    except ValueError as error:
        raise InputError(f"{name} says how it was made in numbers that are none ({error}).") from None
    if "Sampler" in entries:
        found["sampler"] = _sampler(entries["Sampler"], entries.get("Schedule type"), name)
    return found


def _sampler(label: str, spacing: str | None, name: str) -> str:
    """The sampler of the entries "Sampler" and "Schedule type"; before the latter, the former said Karras itself."""
    found = find_sampler(label)
    if found is None:
        raise InputError(f"{name} was drawn by the sampler {label!r}, which is not known here; give --sampler another.")
    method, is_karras = split_name(found)
    word = (spacing or (KARRAS if is_karras else EVEN)).lower()
    if word == AUTOMATIC:
        word = "exponential" if method == "dpm++_2m_sde" else KARRAS if method in USUALLY_KARRAS else EVEN
    if word not in (EVEN, KARRAS):
        warn(
            f"{name} was drawn with steps of the type {word!r}, which is not known here; Karras' steps are the nearest."
        )
    karras = method + ENDING
    return karras if word != EVEN and karras in NAMES else method


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _unquoted(value: str) -> str:
    try:
        return str(json.loads(value)) if value.startswith('"') else value
    except ValueError:
        return value
