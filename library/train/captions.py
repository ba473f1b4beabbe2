"""Captions to conditions: read each time while the text encoders learn, learned by heart while they are frozen."""

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from library.data.dataset import Dataset
from library.device import Compute, free_memory
from library.models.family import Condition, Family
from library.settings import Settings

# Captions whose conditions are kept; one of SD 1.x takes 0.24 MB in float32.
REMEMBERED = 2048


class TextReader:
    """The text encoders of a run, on its device."""

    def __init__(
        self,
        family: Family,
        encoders: Sequence[nn.Module],
        settings: Settings,
        compute: Compute,
        trained: bool,
    ) -> None:
        self.family, self.encoders, self.compute, self.trained = family, encoders, compute, trained
        self.max_token_length, self.clip_skip = settings.max_token_length, settings.clip_skip
        self.stays = True  # whether the encoders are needed on the device for every step
        self._known: dict[str, Condition] = {}

    def learn_by_heart(self, captions: Iterable[str]) -> None:
        """Reads all the captions there will be and lets frozen encoders leave the device, if it is not too many."""
        if self.trained:
            with torch.no_grad():
                self._encode([""])  # finds now, and not in the first step, that there is no layer `clip_skip`
            return
        for caption in captions:
            if len(self._known) >= REMEMBERED:
                return
            self._remember(caption)
        self.stays = False
        for encoder in self.encoders:
            encoder.to("cpu")
        free_memory(self.compute.device)

    def read(self, captions: Sequence[str]) -> Condition:
        """The condition of a batch: hidden states (batch, tokens, width), and what else the family needs."""
        if self.trained:
            return self._encode(captions)
        if self.stays and len(self._known) > REMEMBERED:
            self._known.clear()
        for caption in captions:
            self._remember(caption)
        known = [self._known[caption] for caption in captions]
        pooled = [each.pooled for each in known if each.pooled is not None]
        return Condition(torch.cat([each.hidden for each in known]), torch.cat(pooled) if pooled else None)

    def _remember(self, caption: str) -> None:
        if caption not in self._known:
            with torch.no_grad(), self.compute.autocast():
                condition = self._encode([caption])
            # The encoders may have left the device already; what they say is needed there.
            device = self.compute.device
            pooled = condition.pooled if condition.pooled is None else condition.pooled.to(device)
            self._known[caption] = Condition(condition.hidden.to(device), pooled)

    def _encode(self, captions: Sequence[str]) -> Condition:
        device = next(self.encoders[0].parameters()).device
        tokens = [ids.to(device) for ids in self.family.tokenize(captions, self.max_token_length)]
        return self.family.encode_text(self.encoders, tokens, self.clip_skip)


def captions_of_run(datasets: Iterable[Dataset], epochs: int) -> Iterable[str]:
    """Every caption that the run will show; shuffled and dropped ones as they will come in each epoch."""
    for dataset in datasets:
        for epoch in range(epochs):
            for sample in dataset.samples:
                yield dataset.caption_of(sample, epoch)
