"""What is to be drawn: prompts, from lines and files in the form of sd-scripts. Imports nothing heavy."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from library import lookup
from library.documents import parse_json, parse_toml
from library.errors import InputError
from library.samplers import NAMES, find_sampler

MAX_STEPS = 1000  # the models were trained on 1000 timesteps, and no sampler takes more steps than that
LARGEST = 16384  # pixels of a side, which no machine draws
SHOWN = 40  # characters of a wrong value
PIXEL_STEP = 8  # one latent pixel is 8 x 8 picture pixels

# Line flag -> (field of Prompt, type of its value).
FLAGS: dict[str, tuple[str, type]] = {
    "n": ("negative", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "s": ("steps", int),
    "l": ("guidance", float),
    "ss": ("sampler", str),
}

# Key in a TOML or JSON file -> (field of Prompt, type of its value).
KEYS: dict[str, tuple[str, type]] = {
    "prompt": ("text", str),
    "negative_prompt": ("negative", str),
    "width": ("width", int),
    "height": ("height", int),
    "seed": ("seed", int),
    "sample_steps": ("steps", int),
    "scale": ("guidance", float),
    "sample_sampler": ("sampler", str),
}


@dataclass(frozen=True)
class Prompt:
    """One picture to draw: its words, size in pixels, seed, denoising steps, guidance and sampler.

    A guidance of 1 or less means none: the negative words are then not used.
    Raises InputError naming every value that is out of range.
    """

    text: str
    negative: str = ""
    width: int = 512
    height: int = 512
    seed: int = 0
    steps: int = 30
    guidance: float = 7.5
    sampler: str = "ddim"

    def __post_init__(self) -> None:
        """Check each value; the sampler's name is brought to the spelling of the table."""
        wrong = [*_wrong_numbers(self)]
        sampler = find_sampler(self.sampler)
        if sampler is None:
            wrong.append(_unknown(f"sampler {self.sampler!r}", self.sampler, NAMES))
        if wrong:
            raise InputError(*wrong)
        object.__setattr__(self, "sampler", sampler)


def _wrong_numbers(prompt: Prompt) -> Iterable[str]:
    """A sentence for each number that is out of range."""
    for name, pixels in (("width", prompt.width), ("height", prompt.height)):
        if pixels < PIXEL_STEP or pixels % PIXEL_STEP:
            below = max(PIXEL_STEP, pixels // PIXEL_STEP * PIXEL_STEP)
            yield (
                f"{name} {pixels} is not a positive multiple of {PIXEL_STEP} pixels; "
                f"{below} and {below + PIXEL_STEP} are the nearest."
            )
        elif pixels > LARGEST:
            yield f"{name} {pixels} is more than {LARGEST} pixels, the most that is drawn."
    if not 1 <= prompt.steps <= MAX_STEPS:
        yield f"steps {prompt.steps} is not between 1 and {MAX_STEPS}."
    if not 0 <= prompt.seed < 2**63:
        yield f"seed {prompt.seed} is not between 0 and 2^63 - 1."
    if not (math.isfinite(prompt.guidance) and prompt.guidance >= 0):
        yield f"guidance {prompt.guidance} is not a number of 0 or more."


def _unknown(what: str, word: str, allowed: Iterable[str]) -> str:
    """The sentence for a name that is not in a table."""
    allowed = list(allowed)
    near = lookup.nearest(word, allowed)
    hint = f"did you mean {near!r}?" if near else f"allowed: {', '.join(allowed)}."
    return f"Unknown {what}; {hint}"


def parse_prompt_line(line: str, defaults: Prompt) -> Prompt:
    """One line of a prompt file: words, then flags, e.g. `a sks dog --n blurry --w 512 --h 768 --d 7 --s 30`.

    What the line does not say comes from `defaults`. Raises InputError for unknown flags and bad values.
    """
    text, *options = line.strip().split(" --")
    if text.startswith("--"):  # no words at all: the empty prompt, drawn without a text
        text, options = "", [text[2:], *options]
    fields: dict[str, Any] = {"text": text.strip()}
    wrong = []
    for option in options:
        flag, _, word = option.strip().partition(" ")
        try:
            name, kind = FLAGS[flag.lower()]
            fields[name] = _read_word(word.strip(), kind)
        except KeyError:
            known = " ".join(f"--{name}" for name in FLAGS)
            wrong.append(f"Unknown prompt flag '--{flag}'; allowed: {known}.")
        except ValueError:
            wrong.append(f"--{flag} needs a {_kind_name(kind)}, but got {word.strip()[:SHOWN]!r}.")
    return _with_fields(defaults, fields, wrong)


def read_prompts(path: str | Path, defaults: Prompt) -> list[Prompt]:
    """The prompts of a .txt file (one a line, # comments), a .toml file or a .json list.

    A .toml file has tables `[[prompt.subset]]`, and in `[prompt]` what holds for all of them. What a prompt
    does not say comes from `defaults`. Raises InputError naming every mistake with its line or place, and for
    a file that cannot be read or has no prompt in it.
    """
    path = Path(path)
    readers: dict[str, Callable[[str], list[tuple[str, Any]]]] = {
        ".txt": _entries_of_text,
        ".toml": _entries_of_toml,
        ".json": _entries_of_json,
    }
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: prompts are read from .txt, .toml and .json files only.")
    try:
        if not os.path.isfile(path):
            raise InputError("the prompts cannot be read (there is no such file).")
        entries = readers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: the prompts cannot be read ({error.strerror}).") from None
    except ValueError as error:  # not UTF-8, or not valid TOML or JSON
        raise InputError(f"{path}: the prompts cannot be read ({error}).") from None
    except InputError as error:
        raise InputError(*(f"{path}: {sentence}" for sentence in error.sentences)) from None
    prompts, wrong = [], []
    for place, entry in entries:
        try:
            prompts.append(_prompt_of(entry, defaults))
        except InputError as error:
            wrong += [f"{path}, {place}: {sentence}" for sentence in error.sentences]
    if not entries:
        wrong.append(f"{path} has no prompt in it.")
    if wrong:
        raise InputError(*wrong)
    return prompts


def _read_word(word: str, kind: type) -> Any:
    """The value written as `word`; ValueError if it is none of its kind."""
    if not word and kind is not str:
        raise ValueError
    return kind(word)


def _kind_name(kind: type) -> str:
    """The kind of a value in plain words."""
    return {int: "whole number", float: "number", str: "text"}[kind]


def _with_fields(defaults: Prompt, fields: dict[str, Any], wrong: list[str]) -> Prompt:
    """`defaults` with some fields replaced; InputError with `wrong` and all that Prompt itself finds."""
    prompt = defaults
    try:
        prompt = replace(defaults, **fields)
    except InputError as error:
        wrong = [*wrong, *error.sentences]
    if wrong:
        raise InputError(*wrong)
    return prompt


def _prompt_of(entry: Any, defaults: Prompt) -> Prompt:
    """A prompt from one entry of a file: a line, or a table with the names in KEYS."""
    if isinstance(entry, str):
        return parse_prompt_line(entry, defaults)
    if not isinstance(entry, Mapping):
        raise InputError(f"a prompt is a text or a table, not {entry!r}.")
    fields: dict[str, Any] = {}
    wrong = [] if "prompt" in entry else ["the words are missing; give them as 'prompt'."]
    for key, value in entry.items():
        if key not in KEYS:
            wrong.append(_unknown(f"key {key!r}", key, KEYS))
            continue
        name, kind = KEYS[key]
        given: type = type(value)
        if given is not kind and not (kind is float and given is int):
            wrong.append(f"{key} needs a {_kind_name(kind)}, but got {value!r}.")
            continue
        try:
            fields[name] = kind(value)
        except OverflowError:
            wrong.append(f"{key} needs a number of usual size, but got one of {len(str(value))} digits.")
    return _with_fields(defaults, fields, wrong)


def _entries_of_text(text: str) -> list[tuple[str, Any]]:
    """(place, line) for each line that is neither empty nor a comment."""
    lines = [(f"line {number}", line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    return [(place, line) for place, line in lines if line and not line.startswith("#")]


def _entries_of_toml(text: str) -> list[tuple[str, Any]]:
    """(place, table) for each `[[prompt.subset]]`, completed from `[prompt]`; or `[prompt]` alone."""
    data = parse_toml(text)
    shared = data.pop("prompt", {})
    if data or not isinstance(shared, dict):
        raise InputError("prompts stand in [prompt] and in [[prompt.subset]]; nothing else is read.")
    subsets = shared.pop("subset", None)
    if subsets is None:
        return [("[prompt]", shared)] if shared else []
    if not isinstance(subsets, list) or not all(isinstance(subset, dict) for subset in subsets):
        raise InputError("[[prompt.subset]] must be a list of tables.")
    return [(f"prompt.subset {number}", shared | subset) for number, subset in enumerate(subsets, start=1)]


def _entries_of_json(text: str) -> list[tuple[str, Any]]:
    """(place, entry) for each entry of the list."""
    data = parse_json(text)
    if not isinstance(data, list):
        raise InputError("a JSON file of prompts must be a list.")
    return [(f"entry {number}", entry) for number, entry in enumerate(data, start=1)]
