"""What a prompt says to the UNet, and how its answers to the parts of a prompt become one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from library.models.family import Condition, Family
from library.models.grammar import parts_of
from library.models.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Guidance:
    """The condition of one picture: a row for each part of the prompt, behind one for the negative words.

    `factors` are those of the parts; without any there is one row, which is not guided.
    """

    condition: Condition
    factors: tuple[float, ...] = ()

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


def read_guidance(
    family: Family,
    encoders: Sequence[nn.Module],
    prompt: Prompt,
    clip_skip: int | None = None,
    max_token_length: int | None = None,
) -> Guidance:
    """A prompt in the web UI's grammar, read by text encoders that are where they are to compute.

    `max_token_length` cuts each part; None reads all of it.
    """
    texts, factors = guided_texts(prompt)
    device = next(encoders[0].parameters()).device
    tokens = [each.to(device) for each in family.tokenize_prompts(texts, max_token_length)]
    return Guidance(family.encode_text(encoders, tokens, clip_skip), factors)


@dataclass(frozen=True, eq=False)
class Predictor:
    """The guided answers of a UNet for a batch of pictures, each with its own guidance."""

    family: Family
    unet: nn.Module
    guidances: Sequence[Guidance]
    condition: Condition
    dtype: torch.dtype

    def __call__(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """Answers (batch, channels, h, w), float32, to latents of that shape at one timestep, a tensor of no size."""
        counts = [len(each.condition.hidden) for each in self.guidances]
        rows = torch.cat([each.expand(count, -1, -1, -1) for each, count in zip(noisy.split(1), counts, strict=True)])
        with autocast(rows.device, self.dtype):
            answers = self.family.predict(self.unet, rows, timestep.expand(len(rows)), self.condition)
        pairs = zip(self.guidances, answers.float().split(counts), strict=True)
        return torch.cat([guidance.combined(part) for guidance, part in pairs])


Predict = Callable[[Tensor, Tensor], Tensor]


def joined_condition(conditions: Sequence[Condition], device: torch.device) -> Condition:
    """The rows of several conditions, as one batch on a device."""
    columns = zip(*conditions, strict=True)
    return Condition(*(None if each[0] is None else torch.cat([row.to(device) for row in each]) for each in columns))


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Mixed precision for a forward pass; nothing where all is float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
