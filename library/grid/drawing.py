"""The pictures of a grid, drawn so that each model is loaded once and each set of LoRAs put on once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from PIL.Image import Image
from tqdm import tqdm

from library.grid.axes import Spec
from library.models.family import Family
from library.models.prompts import Prompt
from library.models.studio import Studio, Ways

WARMING_STEPS = 2


class Drawn(NamedTuple):
    """A picture of the grid by its number among the specs, and the seconds that drawing it took."""

    number: int
    picture: Image
    seconds: float


@dataclass(frozen=True)
class Manner:
    """What holds for all pictures; `precision` is no, fp16, bf16, or None for fp16 on CUDA and else no."""

    precision: str | None = None
    clip_skip: int | None = None
    max_token_length: int | None = None  # None reads all of a prompt


def draw_all(specs: Sequence[Spec], families: dict[str, Family], manner: Manner) -> Iterator[Drawn]:
    """Each picture with its time, model by model and LoRA by LoRA, with a progress bar.

    Raises InputError before a model's first picture if one of its LoRAs does not fit it.
    """
    numbers = range(len(specs))
    with tqdm(total=len(specs), desc="drawing", unit="picture") as bar:
        for model in dict.fromkeys(spec.model for spec in specs):
            own = [number for number in numbers if specs[number].model == model]
            for drawn in _draw(specs, own, families[model], manner):
                bar.update()
                yield drawn


def _draw(specs: Sequence[Spec], numbers: Sequence[int], family: Family, manner: Manner) -> Iterator[Drawn]:
    """Those of one model."""
    studio = Studio(family, Ways(manner.precision))
    worn = {number: (*specs[number].tagged, *specs[number].loras) for number in numbers}
    studio.check(list(dict.fromkeys(path for loras in worn.values() for path, _ in loras)))

    def draw(prompt: Prompt) -> Image:
        [(_, picture)] = studio.draw_as_is([prompt], manner.clip_skip, manner.max_token_length)
        return picture

    if studio.device.type == "cuda":  # a GPU's first steps are slow, and would be counted as the first picture's
        draw(replace(specs[numbers[0]].prompt, steps=WARMING_STEPS))
    for loras in dict.fromkeys(worn.values()):
        with studio.wearing(loras):
            for number in (number for number in numbers if worn[number] == loras):
                start = time.perf_counter()
                picture = draw(specs[number].prompt)
                yield Drawn(number, picture, time.perf_counter() - start)
