"""What stands in a prompt beside words, as in AUTOMATIC1111's web UI: `<lora:name:0.8>`, AND. Imports nothing heavy.

Brackets and BREAK, which the text encoder is concerned with, are read in emphasis.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from library.errors import InputError

TAG = re.compile(r"<(?:lora|lyco|hypernet):([^<>]*)>", re.IGNORECASE)
AND = re.compile(r"\bAND\b")
PART_WEIGHT = re.compile(r"\s*:\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*$")
LORA_ENDINGS = (".safetensors", ".pt", ".ckpt")


@dataclass(frozen=True)
class Tag:
    """A LoRA or a hypernetwork that a prompt names, by its file's name without the ending."""

    name: str
    strength: float = 1.0


def read_tags(text: str) -> tuple[str, list[Tag]]:
    """A prompt without its `<lora:name:0.8>` tags, and the tags in their order; a tag without a number means 1.

    Raises InputError for a tag without a name, and for one with another strength than a number.
    """
    return TAG.sub("", text), [_read_tag(match[0], match[1]) for match in TAG.finditer(text)]


def _read_tag(tag: str, content: str) -> Tag:
    name, *strengths = (word.strip() for word in content.split(":"))
    try:
        if not name or len(strengths) > 1:
            raise ValueError
        return Tag(name, *map(float, strengths))
    except ValueError:
        raise InputError(f"{tag} in a prompt is not understood; write <lora:NAME:0.8>, with one number.") from None


def find_tagged(tags: Sequence[Tag], folder: Path | None, given: Sequence[Path]) -> dict[str, Path]:
    """The file of each tag: one of those `given`, or one in `folder` or in a folder in it.

    Raises InputError naming every tag that has no file, or several.
    """
    places = sorted(path for path in folder.rglob("*") if path.suffix.lower() in LORA_ENDINGS) if folder else []
    wrong, found = [], {}
    for name in dict.fromkeys(tag.name for tag in tags):
        files = [path for path in given if path.stem == name] or [path for path in places if path.stem == name]
        if not files:
            where = f"no file of that name is in {folder}" if folder else "give --lora_dir, the folder of its file"
            wrong.append(f"<lora:{name}> in a prompt: {where}.")
        elif len({path.resolve() for path in files}) > 1:
            wrong.append(f"<lora:{name}> in a prompt may be {' or '.join(map(str, files))}; rename one of them.")
        else:
            found[name] = files[0]
    if wrong:
        raise InputError(*wrong)
    return found


def parts_of(text: str) -> list[tuple[str, float]]:
    """The parts of a prompt that AND joins, each with the weight behind it: `a cat :1.2 AND a hat` has 1.2 and 1.

    Each part's guidance is added by its weight (Liu et al. 2022, arXiv 2206.01714, equation 11). A number at the end
    of a prompt without AND is words like all others.
    """
    parts = AND.split(text)
    if len(parts) == 1:
        return [(text, 1.0)]
    return [_weigh(part) for part in parts]


def _weigh(part: str) -> tuple[str, float]:
    found = PART_WEIGHT.search(part)
    return (part[: found.start()].strip(), float(found[1])) if found else (part.strip(), 1.0)
