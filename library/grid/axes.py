"""What differs along the axes of a grid, and what each of its pictures is drawn with. Imports nothing heavy."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from library.errors import InputError
from library.models.grammar import find_tagged, read_tags
from library.models.prompts import Prompt

NONE, LAST = "none", "last"  # no LoRA; the file that a training ended with
Lora = tuple[Path, float]


@dataclass(frozen=True)
class Spec:
    """What one picture is drawn with; the strength and epoch axes are about the first of the LoRAs.

    `tagged` are those that the prompt itself names.
    """

    model: str
    loras: tuple[Lora, ...]
    prompt: Prompt
    tagged: tuple[Lora, ...] = ()


@dataclass(frozen=True)
class Axis:
    """One thing that differs, by its kind in `KINDS`, and its values as they were written."""

    kind: str
    values: tuple[str, ...]

    @property
    def titles(self) -> tuple[str, ...]:
        """What stands beside the pictures."""
        if self.kind in ("prompt", "sampler"):
            return self.values
        if self.kind in ("model", "lora"):
            return tuple("no LoRA" if each == NONE else Path(each).stem for each in self.values)
        return tuple(f"{self.kind} {each}" for each in self.values)


def read_axis(text: str) -> Axis:
    """An axis from KIND=VALUE,VALUE; a value with a comma in it stands in double quotes.

    LoRA files may be given by a pattern such as output/demo-*.safetensors. Raises InputError.
    """
    kind, equals, words = text.partition("=")
    kind = kind.strip().lower()
    if not equals or kind not in KINDS:
        raise InputError(f"{text!r} is no axis; write KIND=VALUE,VALUE, where KIND is one of {', '.join(KINDS)}.")
    [values] = list(csv.reader([words], skipinitialspace=True)) or [[]]
    found = [value.strip() for value in values if value.strip()]
    if kind == "lora":
        found = [path for value in found for path in _matching(value)]
    if not found:
        raise InputError(f"the axis {text!r} has no values.")
    if doubles := sorted({value for value in found if found.count(value) > 1}):
        raise InputError(f"the axis {text!r} has {doubles[0]!r} twice.")
    return Axis(kind, tuple(found))


def specs_of(base: Spec, axes: Sequence[Axis]) -> list[Spec]:
    """What each picture is drawn with; the last axis is the fastest.

    Raises InputError naming every value that does not fit.
    """
    wrong: list[str] = []
    if doubles := {axis.kind for axis in axes if [each.kind for each in axes].count(axis.kind) > 1}:
        raise InputError(f"two axes are both about {min(doubles)}.")
    # A LoRA has to be there before its strength is set, and an epoch's name is made from the first file's.
    order = sorted(range(len(axes)), key=lambda number: list(KINDS).index(axes[number].kind))
    specs = []
    for values in product(*(axis.values for axis in axes)):
        spec = base
        try:
            for number in order:
                spec = KINDS[axes[number].kind](spec, values[number], axes[number].values)
        except InputError as error:
            wrong += error.sentences
        specs.append(spec)
    if wrong:
        raise InputError.of(dict.fromkeys(wrong))
    return specs


def with_tagged(specs: Sequence[Spec], folder: Path | None) -> list[Spec]:
    """The specs with the LoRAs that their prompts name as <lora:NAME:0.8>, whose files are in `folder`.

    Raises InputError for a name without a file, and for one that is given in another way too.
    """
    tags = [read_tags(spec.prompt.text)[1] for spec in specs]
    given = {path.stem for spec in specs for path, _ in spec.loras}
    if twice := given & {tag.name for own in tags for tag in own}:
        raise InputError(f"<lora:{min(twice)}> is in a prompt and given by --lora or an axis too; keep one of them.")
    files = find_tagged([tag for own in tags for tag in own], folder, ())
    return [
        replace(spec, tagged=tuple((files[tag.name], tag.strength) for tag in own))
        for spec, own in zip(specs, tags, strict=True)
    ]


def _matching(value: str) -> Iterator[str]:
    """The files of a pattern by name, or the value itself."""
    path = Path(value)
    if not any(mark in path.name for mark in "*?["):
        yield value
        return
    found = sorted(str(each) for each in path.parent.glob(path.name))
    if not found:
        raise InputError(f"the axis lora={value}: no file has such a name.")
    yield from found


def _with_model(spec: Spec, value: str, _: Sequence[str]) -> Spec:
    return replace(spec, model=value)


def _with_lora(spec: Spec, value: str, _: Sequence[str]) -> Spec:
    if value == NONE:
        return spec
    if not Path(value).is_file():
        raise InputError(f"the axis lora: there is no file {value}.")
    return replace(spec, loras=((Path(value), 1.0), *spec.loras))


def _with_epoch(spec: Spec, value: str, _: Sequence[str]) -> Spec:
    if not spec.loras:
        raise InputError("the axis epoch needs --lora, the file that a training ended with.")
    (path, strength), *rest = spec.loras
    if value != LAST:
        number = _number("epoch", value, int)
        path = path.with_name(f"{path.stem}-{number:06d}{path.suffix}")
    if not path.is_file():
        raise InputError(f"the axis epoch: there is no file {path}.")
    return replace(spec, loras=((path, strength), *rest))


def _with_strength(spec: Spec, value: str, _: Sequence[str]) -> Spec:
    number = _number("strength", value, float)
    if not spec.loras:
        return spec  # a column without a LoRA is the same at all strengths
    (path, _strength), *rest = spec.loras
    return replace(spec, loras=((path, number), *rest))


def _with_words(spec: Spec, value: str, values: Sequence[str]) -> Spec:
    """The first value is what the others take the place of."""
    if values[0] not in spec.prompt.text:
        raise InputError(
            f"the axis prompt: its first value {values[0]!r} is what is replaced, and no part of the prompt."
        )
    return replace(spec, prompt=replace(spec.prompt, text=spec.prompt.text.replace(values[0], value)))


def _with_field(name: str, read: Callable[[str], Any]) -> Callable[[Spec, str, Sequence[str]], Spec]:
    """Sets one field of the prompt, which checks it."""

    def put(spec: Spec, value: str, _: Sequence[str]) -> Spec:
        return replace(spec, prompt=replace(spec.prompt, **{name: _number(name, value, read)}))

    return put


def _number(kind: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        number = read(value)
        if read is float and not math.isfinite(number):
            raise ValueError
        return number
    except ValueError:
        what = "whole number" if read is int else "number"
        raise InputError(f"the axis {kind}: {value!r} is no {what}.") from None


# In the order in which they are applied.
KINDS: dict[str, Callable[[Spec, str, Sequence[str]], Spec]] = {
    "model": _with_model,
    "lora": _with_lora,
    "epoch": _with_epoch,
    "strength": _with_strength,
    "prompt": _with_words,
    "sampler": _with_field("sampler", str),
    "steps": _with_field("steps", int),
    "guidance": _with_field("guidance", float),
    "seed": _with_field("seed", int),
}
