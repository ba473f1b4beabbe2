"""A base model on a device, ready to draw many pictures with any adapters, for sheets and grids."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from library.adapters.merged import load_adapters
from library.adapters.shared import use_shared_products
from library.device import start_compute
from library.errors import InputError
from library.frozen import use_frozen_layers
from library.log import warn
from library.models.drawing import Painter, Start, borrowed
from library.models.embeddings import Embedding, put_on
from library.models.family import Family
from library.models.grammar import read_tags
from library.models.guidance import Guidance
from library.models.prompts import PIXEL_STEP, Prompt

TILE = 768  # pixels; larger pictures are decoded in tiles of this size where memory is short
Worn = Sequence[tuple[Path, float]]  # files of adapters, with their strengths


@dataclass(frozen=True)
class Ways:
    """How is computed. `precision` is "no", "fp16", "bf16" or None, the fastest that is safe; with `low_memory` each
    part of the model is on the device only while it works, and the VAE decodes large pictures in pieces.
    """

    precision: str | None = None
    low_memory: bool = False
    compiled: bool = False
    batch_size: int = 1


class Studio:
    """A base model and its painter."""

    def __init__(self, family: Family, ways: Ways, words: Sequence[Embedding] = ()) -> None:
        """Raises InputError for a learned word that does not fit the model."""
        compute = start_compute(ways.precision or "no")
        is_fast_in_half = ways.precision is None and compute.device.type == "cuda"
        self.ways, self.device = ways, compute.device
        self.dtype = torch.float16 if is_fast_in_half else compute.dtype
        encoders, unet = family.load_text_encoders(self.dtype), family.load_unet(self.dtype)
        vae: Any = family.load_vae(torch.float32)
        if ways.low_memory:
            vae.enable_tiling()
            vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // PIXEL_STEP
        readers = dict(zip(family.text_parts, encoders, strict=True))
        for each in () if ways.low_memory else (vae, unet, *encoders):
            each.to(self.device)
        for embedding in words:
            put_on(readers, embedding)
        self._modules: dict[str, nn.Module] = {"unet": unet, **readers}
        self._layers = {part: family.adapter_layers(module, part) for part, module in self._modules.items()}
        self.painter = Painter(family, vae, encoders, unet)
        if ways.compiled:
            unet.compile()
        elif not ways.low_memory:
            use_frozen_layers([unet, *use_shared_products(unet)], ["ahead"])
        self._is_proven = not ways.compiled

    def check(self, files: Sequence[Path]) -> None:
        """InputError for a file of an adapter that does not fit the model."""
        load_adapters([(path, 0.0) for path in files], self._modules, self._layers)

    @contextmanager
    def wearing(self, worn: Worn) -> Iterator[None]:
        """Within it the model has these adapters in its weights."""
        merged = load_adapters(worn, self._modules, self._layers)
        try:
            yield
        finally:
            merged.restore()

    def draw(
        self,
        prompts: Sequence[Prompt],
        worn: Worn = (),
        clip_skip: int | None = None,
        max_token_length: int | None = None,
        start: Start | None = None,
    ) -> Iterator[tuple[int, Image.Image]]:
        """The pictures of prompts in the web UI's grammar with their numbers, drawn with adapters put on.

        Those that can be drawn in one batch are; tags of LoRAs in the prompts are passed over, being `worn`.
        """
        with self.wearing(worn):
            yield from self.draw_as_is(prompts, clip_skip, max_token_length, start)

    def draw_as_is(
        self,
        prompts: Sequence[Prompt],
        clip_skip: int | None = None,
        max_token_length: int | None = None,
        start: Start | None = None,
    ) -> Iterator[tuple[int, Image.Image]]:
        """As `draw`, with whatever the model is `wearing`."""
        plain = [replace(prompt, text=read_tags(prompt.text)[0]) for prompt in prompts]
        with borrowed(self.painter.text_encoders, self.device):
            guidances = self.painter.read(plain, clip_skip, self.device, self.dtype, max_token_length)
        for numbers in batches(plain, guidances, self.ways.batch_size):
            chosen = [plain[number] for number in numbers], [guidances[number] for number in numbers]
            yield from zip(numbers, self._draw_batch(*chosen, start), strict=True)

    def _draw_batch(
        self, prompts: Sequence[Prompt], guidances: Sequence[Guidance], start: Start | None
    ) -> list[Image.Image]:
        """A batch; if the compiled UNet fails at the first one, it is drawn again and all others without compiling."""
        try:
            pictures = self.painter.draw_batch(prompts, guidances, self.device, self.dtype, start)
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if self._is_proven:
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            warn(f"the UNet cannot be compiled here ({reason[:120]}); it draws uncompiled.")
            self.painter.unet._compiled_call_impl = None
            self._is_proven = True
            return self._draw_batch(prompts, guidances, start)
        self._is_proven = True
        return pictures


def batches(prompts: Sequence[Prompt], guidances: Sequence[Guidance], size: int) -> list[list[int]]:
    """The numbers of the prompts in order, neighbours together that can be drawn at once, `size` at most."""
    alike = [
        (prompt.width, prompt.height, prompt.steps, prompt.sampler, guidance.condition.hidden.shape[1])
        for prompt, guidance in zip(prompts, guidances, strict=True)
    ]
    found = []
    for _, group in groupby(range(len(prompts)), key=alike.__getitem__):
        numbers = list(group)
        found += [numbers[first : first + size] for first in range(0, len(numbers), size)]
    return found
