"""Pictures drawn on the way, so that a person sees what the LoRA has learned so far."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from library.data.dataset import Dataset
from library.data.validation import validation_view
from library.device import Compute, free_memory
from library.errors import InputError
from library.log import say, warn
from library.models.drawing import Painter, texts_of
from library.models.prompts import Prompt, read_prompts
from library.settings import Settings
from library.train.captions import TextReader
from library.train.compiling import uncompiled
from library.train.validation import evaluating

FIRST_CAPTIONS = 4


def preview_prompts(settings: Settings, dataset: Dataset) -> list[Prompt]:
    """The prompts of the prompt file; where there is none, the first captions. Empty if no previews are asked for.

    A prompt that does not say otherwise is drawn in the training's resolution, from the run's seed: the same noise
    at every preview, so that only what was learned differs.
    """
    asked = settings.sample_every_n_steps or settings.sample_every_n_epochs or settings.sample_at_first
    if not asked:
        if settings.sample_prompts:
            warn("sample_prompts is set, but no previews are asked for; set sample_every_n_epochs = 1 to get some.")
        return []
    width, height = dataset.resolution
    defaults = Prompt("", width=width, height=height, seed=settings.seed, sampler=settings.sample_sampler)
    if settings.sample_prompts:
        return read_prompts(settings.sample_prompts, defaults)
    plain = validation_view(dataset)
    captions = [plain.caption_of(sample, epoch=0) for sample in plain.samples]
    first = list(dict.fromkeys(filter(None, captions)))[:FIRST_CAPTIONS]
    if not first:
        raise InputError("previews are asked for, but there are no captions to draw; give sample_prompts a file.")
    say(f"sample_prompts is not set: previews draw the first {len(first)} captions.")
    return [replace(defaults, text=caption) for caption in first]


@dataclass(frozen=True)
class Preview:
    """One drawn picture with its prompt and number."""

    number: int
    prompt: Prompt
    image: Image.Image


@dataclass(frozen=True)
class Previews:
    """The prompts, and the models that read and draw them; `open_painter` brings the VAE when the first is drawn."""

    open_painter: Callable[[], Painter]
    prompts: Sequence[Prompt]
    reader: TextReader
    compute: Compute

    def draw(self) -> Iterator[Preview]:
        """Draws every prompt. One that cannot be drawn is a warning: training goes on without it."""
        for number, prompt in enumerate(self.prompts):
            try:
                with torch.no_grad(), evaluating(*self.reader.encoders), self.compute.autocast(), uncompiled():
                    condition = self.reader.read(texts_of(prompt))
                device, dtype = self.compute.device, self.compute.dtype
                painter = self.open_painter()
                with uncompiled():
                    image = painter.draw(prompt, device=device, dtype=dtype, condition=condition)
            except (InputError, MemoryError, RuntimeError, ValueError) as error:
                warn(f"preview {number} ({prompt.text!r}) was not drawn: {error}")
                free_memory(self.compute.device)
                continue
            yield Preview(number, prompt, image)
