"""What a prompt says to the UNet, and how its answers to the parts of a prompt become one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from library.models.editing import at_steps
from library.models.family import Condition, Family
from library.models.grammar import parts_of
from library.models.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Guidance:
    """The condition of one picture: a row for each part of the prompt, behind one for the negative words.

    `factors` are those of the parts; without any there is one row, which is not guided. Where words change on the way,
    `steps` says which rows of the condition are read at each step.
    """

    condition: Condition
    factors: tuple[float, ...] = ()
    steps: tuple[tuple[int, ...], ...] = ()

    def rows(self, step: int) -> Sequence[int]:
        """The rows of the condition that are read at a step, counted from 0."""
        return self.steps[min(step, len(self.steps) - 1)] if self.steps else range(len(self.condition.hidden))

    def combined(self, answers: Tensor) -> Tensor:
        """One answer (1, channels, h, w) of those to all rows (rows, channels, h, w): classifier-free guidance (Ho and
        Salimans 2022, arXiv 2207.12598), summed over the parts.
        """
        if not self.factors:
            return answers
        negative, *parts = answers.split(1)
        changes = (factor * (part - negative) for factor, part in zip(self.factors, parts, strict=True))
        return negative + sum(changes)


def guided_texts(prompt: Prompt) -> tuple[list[str], tuple[float, ...]]:
    """What the text encoders read for a prompt with AND in it, negative words first where they are used; and the
    factors of the parts.
    """
    parts = parts_of(prompt.text)
    if prompt.guidance <= 1 and len(parts) == 1:
        return [parts[0][0]], ()
    scale = max(prompt.guidance, 1.0)
    return [prompt.negative, *(text for text, _ in parts)], tuple(scale * weight for _, weight in parts)


def texts_by_steps(texts: Sequence[str], steps: int) -> tuple[list[str], tuple[tuple[int, ...], ...]]:
    """All that texts say at any step, and at each step the numbers of what they say; none where nothing changes."""
    columns = [at_steps(text, steps) for text in texts]
    if all(said == text for text, column in zip(texts, columns, strict=True) for said in column):
        return list(texts), ()
    numbers: dict[str, int] = {}
    rows = [tuple(numbers.setdefault(said, len(numbers)) for said in row) for row in zip(*columns, strict=True)]
    return list(numbers), tuple(rows)


def read_guidance(
    family: Family,
    encoders: Sequence[nn.Module],
    prompt: Prompt,
    clip_skip: int | None = None,
    max_token_length: int | None = None,
) -> Guidance:
    """A prompt in the web UI's grammar, read by text encoders that are where they are to compute.

    `max_token_length` cuts each part; None reads all of it. What changes on the way is read in all its forms.
    """
    parts, factors = guided_texts(prompt)
    texts, steps = texts_by_steps(parts, prompt.steps)
    device = next(encoders[0].parameters()).device
    tokens = [each.to(device) for each in family.tokenize_prompts(texts, max_token_length)]
    return Guidance(family.encode_text(encoders, tokens, clip_skip), factors, steps)


@dataclass(eq=False)
class Predictor:
    """The guided answers of a UNet for a batch of pictures, each with its own guidance, at the step that was told."""

    family: Family
    unet: nn.Module
    guidances: Sequence[Guidance]
    condition: Condition
    dtype: torch.dtype
    step: int = 0

    def __post_init__(self) -> None:
        """Find the rows of each picture in the batch's condition."""
        self.starts = [0, *accumulate(len(each.condition.hidden) for each in self.guidances)]
        self.is_changing = any(each.steps for each in self.guidances)

    def at(self, step: int) -> None:
        """From now on it answers for this step, counted from 0."""
        self.step = step

    def __call__(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Answers (batch, channels, h, w), float32, to latents of that shape at one timestep, a tensor of no size."""
        places = [each.rows(self.step) for each in self.guidances]
        counts = [len(each) for each in places]
        condition = self.condition
        if self.is_changing:
            pairs = zip(self.starts, places, strict=False)
            condition = chosen_rows(condition, [start + row for start, each in pairs for row in each])
        rows = torch.cat([each.expand(count, -1, -1, -1) for each, count in zip(noisy.split(1), counts, strict=True)])
        with autocast(rows.device, self.dtype):
            answers = self.family.predict(self.unet, rows, timestep.expand(len(rows)), condition)
        parts = answers.float().split(counts)
        return torch.cat([each.combined(part) for each, part in zip(self.guidances, parts, strict=True)])


Predict = Callable[[Tensor, Tensor], Tensor]


def chosen_rows(condition: Condition, rows: list[int]) -> Condition:
    """These rows of a condition, in this order."""
    return condition.each(lambda column: column[rows])


def joined_condition(conditions: Sequence[Condition], device: torch.device) -> Condition:
    """The rows of several conditions, as one batch on a device."""
    columns = zip(*conditions, strict=True)
    joined: list[Any] = [None if each[0] is None else torch.cat([row.to(device) for row in each]) for each in columns]
    return Condition(*joined)


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for a forward pass; nothing where all is float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
