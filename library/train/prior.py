"""Keeping the class without pictures of it: the base model's own prediction is the target for the class prompt."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from library.adapters.network import Network
from library.device import Compute
from library.models.family import Condition
from library.settings import Settings
from library.train.captions import TextReader
from library.train.step import Batch, Objective, Question

if TYPE_CHECKING:
    from library.train.model import Model

Base = Callable[[], AbstractContextManager[nn.Module]]  # within it stands a UNet that predicts as the base does


@dataclass(frozen=True)
class SelfPrior:
    """What `prior_preservation = "self"` adds to the loss.

    `condition` (1, tokens, width) is what the base model's text encoders say to `prompt`, the class prompt. Within
    `base()` stands a UNet that predicts as the base model does; `held` are modules that are there for that alone.
    """

    prompt: str
    weight: float
    condition: Condition
    base: Base
    held: tuple[nn.Module, ...] = ()

    def losses(self, model: "Model", objective: Objective, batch: Batch, question: Question) -> Tensor:
        """The weighted loss of each sample, (batch,): how far the answer to the class prompt is from the base's.

        Asked is about the samples' own noisy latents. Masks say where the subject is, so that none counts here.
        """
        count = len(batch.draws)
        with torch.no_grad(), self.base() as unet:
            condition = _repeated(self.condition, count)._replace(sizes=batch.sizes)
            target = model.family.predict(unet, question.noisy, question.timesteps, condition)
        asked = replace(batch, captions=[self.prompt] * count, mask=None)
        condition = model.reader.read(asked.captions)  # in the words of today, where a text encoder learns
        return self.weight * objective.losses(
            model.family, model.unet, asked, condition, question._replace(target=target)
        )


def prior_texts(settings: Settings) -> list[str]:
    """What is read for the prior besides the captions."""
    return [settings.class_prompt or ""] if _is_asked_for(settings) else []


def adapter_prior(
    settings: Settings, compute: Compute, reader: TextReader, unet: nn.Module, network: Network
) -> SelfPrior | None:
    """The prior of a run that trains adapters, if it asks for one."""
    if not _is_asked_for(settings):
        return None
    with network.disabled():
        return _prior_of(settings, compute, reader, adapter_base(unet, network))


def whole_prior(settings: Settings, compute: Compute, reader: TextReader, unet: nn.Module) -> SelfPrior | None:
    """The prior of a run that trains whole weights, if it asks for one; to be made before they change.

    What the base's text encoders say is what they say now.
    """
    if not _is_asked_for(settings):
        return None
    base, held = whole_base(compute, reader, unet)
    return _prior_of(settings, compute, reader, base, *held)


def adapter_base(unet: nn.Module, network: Network) -> Base:
    """Where `unet` predicts, and text encoders read, as without the network."""

    @contextmanager
    def base() -> Iterator[nn.Module]:
        with network.disabled():
            yield unet

    return base


def whole_base(compute: Compute, reader: TextReader, unet: nn.Module) -> tuple[Base, tuple[nn.Module, ...]]:
    """The base model of a run whose UNet may learn as a whole, and what is held for it.

    It is a UNet of its own in the number format of the run, unless `unet` itself is frozen.
    """
    if not any(parameter.requires_grad for parameter in unet.parameters()):
        return (lambda: nullcontext(unet)), ()
    frozen = reader.family.load_unet(compute.dtype).to(compute.device)
    return (lambda: nullcontext(frozen)), (frozen,)


def _is_asked_for(settings: Settings) -> bool:
    return settings.prior_preservation == "self" and settings.prior_loss_weight > 0


def _prior_of(
    settings: Settings,
    compute: Compute,
    reader: TextReader,
    base: Base,
    *held: nn.Module,
) -> SelfPrior:
    """The prior, with the class prompt read by text encoders that are the base model's just now."""
    prompt = settings.class_prompt or ""
    with torch.no_grad(), compute.autocast():
        condition = reader.read([prompt])
    return SelfPrior(prompt, settings.prior_loss_weight, condition, base, held)


def _repeated(condition: Condition, count: int) -> Condition:
    """A condition of one caption for `count` samples."""
    return condition.each(lambda part: part.expand(count, *part.shape[1:]))
