"""The pictures of a grid, drawn so that each model is loaded once and each set of LoRAs put on once."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from PIL.Image import Image
from tqdm import tqdm

from library.adapters.merged import load_adapters
from library.device import start_compute
from library.grid.axes import Spec
from library.models.drawing import Painter
from library.models.family import Family

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
    max_token_length: int = 75


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
    compute = start_compute(manner.precision or "no")
    is_fast_in_half = manner.precision is None and compute.device.type == "cuda"
    dtype = torch.float16 if is_fast_in_half else compute.dtype
    encoders = [encoder.to(compute.device) for encoder in family.load_text_encoders(dtype)]
    unet, vae = family.load_unet(dtype).to(compute.device), family.load_vae(torch.float32).to(compute.device)
    modules = {"unet": unet, **dict(zip(family.text_parts, encoders, strict=True))}
    layers = {part: family.adapter_layers(module, part) for part, module in modules.items()}
    files = dict.fromkeys(path for number in numbers for path, _ in specs[number].loras)
    load_adapters([(path, 0.0) for path in files], modules, layers)  # strength 0: only a check
    painter = Painter(family, vae, encoders, unet)
    how = {"clip_skip": manner.clip_skip, "device": compute.device, "dtype": dtype}
    how["max_token_length"] = manner.max_token_length
    if compute.device.type == "cuda":  # a GPU's first steps are slow, and would be counted as the first picture's
        painter.draw(replace(specs[numbers[0]].prompt, steps=WARMING_STEPS), **how)
    for loras in dict.fromkeys(specs[number].loras for number in numbers):
        merged = load_adapters(list(loras), modules, layers)
        for number in (number for number in numbers if specs[number].loras == loras):
            start = time.perf_counter()
            picture = painter.draw(specs[number].prompt, **how)
            yield Drawn(number, picture, time.perf_counter() - start)
        merged.restore()
