"""Keeping the class by pictures of it and what the base model itself predicts of them, which is learned, not the noise.

Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531) on DreamBooth's class pictures (Ruiz et al. 2022, arXiv
2208.12242). What the base model says of a noisy picture is a mean over all that might have been there: nothing of the
few pictures themselves is learned by heart, and their class keeps its variety.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from library.adapters.network import Network
from library.device import Compute
from library.models.family import Condition, Family
from library.settings import Settings
from library.train.captions import TextReader
from library.train.prior import Base, adapter_base, whole_base
from library.train.step import Batch, Question


@dataclass(frozen=True)
class Teacher:
    """What `prior_preservation = "distill"` makes of class pictures.

    Within `base()` stands a UNet that predicts as the base model does, and `reader` reads as its text encoders do;
    `held` are modules that are there for that alone.
    """

    base: Base
    reader: TextReader
    held: tuple[nn.Module, ...] = ()

    def instead(self, family: Family, batch: Batch, question: Question) -> Question:
        """The question with the base model's answers as the right ones for samples of the class."""
        places = [place for place, is_class in enumerate(batch.of_class) if is_class]
        if not places:
            return question
        rows = torch.tensor(places, device=question.noisy.device)
        with torch.no_grad(), self.base() as unet:
            said: Condition = self.reader.read([batch.captions[place] for place in places])
            said = said._replace(sizes=None if batch.sizes is None else batch.sizes[rows])
            answers = family.predict(unet, question.noisy[rows], question.timesteps[rows], said)
        target = question.target.index_copy(0, rows, answers.to(question.target.dtype))
        return question._replace(target=target)


def adapter_teacher(settings: Settings, reader: TextReader, unet: nn.Module, network: Network) -> Teacher | None:
    """The teacher of a run that trains adapters, if it asks for one: the model without them."""
    if settings.prior_preservation != "distill":
        return None
    return Teacher(adapter_base(unet, network), reader)


def whole_teacher(
    settings: Settings, compute: Compute, reader: TextReader, unet: nn.Module, captions: Iterable[str]
) -> Teacher | None:
    """The teacher of a run that trains whole weights, if it asks for one; to be made before they change.

    The base's text encoders read `captions`, all that the run will, and leave the device, unless these are very many.
    """
    if settings.prior_preservation != "distill":
        return None
    base, held = whole_base(compute, reader, unet)
    if not reader.trained:
        return Teacher(base, reader, held)
    before = TextReader(reader.family, settings, compute, trained=False)
    before.learn_by_heart(captions)
    return Teacher(base, before, (*held, *(before.encoders if before.stays else ())))
