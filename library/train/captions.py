"""Captions to conditions: read each time while the text encoders learn, learned by heart while they are frozen."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import nn
from tqdm import tqdm

from library.data.captions import is_constant, whole_captions
from library.data.dataset import Dataset
from library.device import Compute, free_memory
from library.log import warn
from library.models.drawing import texts_of
from library.models.family import Condition, Family
from library.models.prompts import Prompt
from library.models.text import MAX_TOKEN_LENGTHS
from library.settings import Settings
from library.train.data import Datasets
from library.train.plan import Plan
from library.train.text_cache import TextCache

# Captions whose conditions are kept; one of SD 1.x takes 0.24 MB in float32.
REMEMBERED = 2048


class TextReader:
    """The text encoders of a run, on its device; they are loaded when something is read that is not known yet."""

    def __init__(
        self,
        family: Family,
        settings: Settings,
        compute: Compute,
        trained: bool,
        cache: TextCache | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`cache` keeps on disk what frozen encoders say; `dtype` is that of the weights, the computation's if None."""
        self.family, self.compute, self.trained, self.cache = family, compute, trained, cache
        self.max_token_length, self.clip_skip = settings.max_token_length, settings.clip_skip
        self.weighted = settings.weighted_captions
        self.dtype = dtype or compute.dtype
        self.encoders: list[nn.Module] = []
        self.stays = True  # whether the encoders are needed on the device for every step
        self._known: dict[str, Condition] = {}

    def load(self) -> list[nn.Module]:
        """The text encoders, on the device where they have not left it."""
        if not self.encoders:
            loaded = self.family.load_text_encoders(self.dtype)
            self.encoders = [encoder.to(self.compute.device) for encoder in loaded]
        return self.encoders

    def learn_by_heart(self, captions: Iterable[str]) -> None:
        """Reads all the captions there will be and lets frozen encoders leave the device, if it is not too many.

        With a cache it is never too many: what is not kept in memory is on the disk.
        """
        if self.trained:
            with torch.no_grad():
                self._encode([""])  # finds now, and not in the first step, that there is no layer `clip_skip`
            return
        if self.cache:
            self._fill_cache(self.cache, captions)
        else:
            for caption in captions:
                if len(self._known) >= REMEMBERED:
                    return
                self._remember(caption)
        self.stays = False
        for encoder in self.encoders:
            encoder.to("cpu")
        free_memory(self.compute.device)

    def stay(self) -> None:
        """Has the encoders on the device for good, as where they cannot learn everything by heart."""
        self.stays = True
        for encoder in self.load():
            encoder.to(self.compute.device)

    def read(self, captions: Sequence[str]) -> Condition:
        """The condition of a batch: hidden states (batch, tokens, width), and what else the family needs."""
        if self.trained:
            return self._encode(captions)
        if (self.stays or self.cache) and len(self._known) > REMEMBERED:
            self._known.clear()
        for caption in captions:
            self._remember(caption)
        known = [self._known[caption] for caption in captions]
        pooled = [each.pooled for each in known if each.pooled is not None]
        return Condition(torch.cat([each.hidden for each in known]), torch.cat(pooled) if pooled else None)

    def _fill_cache(self, cache: TextCache, captions: Iterable[str]) -> None:
        """Encodes this process's share of what the cache lacks, each caption by itself, and waits for the others."""
        missing = []
        for number, caption in enumerate(dict.fromkeys(captions)):
            # What memory holds is read, and so looked into; damage in others is found when they are used.
            known = cache.get(caption) if number < REMEMBERED else None
            if known:
                self._keep(caption, known)
            elif number < REMEMBERED or not cache.path_of(caption).is_file():
                missing.append((number, caption))
        if missing:
            cache.check_room(len(missing), self._encode_alone(""))
        # By position in what is needed, not in what is missing: the others may already have written some of that.
        share = [text for number, text in missing if number % self.compute.world_size == self.compute.rank]
        silent = not self.compute.is_main
        for caption in tqdm(share, "encoding captions", unit="caption", disable=silent, leave=False, delay=1):
            cache.put(caption, self._encode_alone(caption))
        self.compute.wait()

    def _remember(self, caption: str) -> None:
        if caption in self._known:
            return
        condition = self.cache.get(caption) if self.cache else None
        if condition is None:
            condition = self._encode_alone(caption)
            if self.cache:
                self.cache.put(caption, condition)
        self._keep(caption, condition)

    def _keep(self, caption: str, condition: Condition) -> None:
        """The encoders may have left the device already; what they say is needed there."""
        self._known[caption] = condition.each(lambda part: part.to(self.compute.device))

    def _encode_alone(self, caption: str) -> Condition:
        """So what is kept of a caption, in float32, does not depend on its neighbours."""
        with torch.no_grad(), self.compute.autocast():
            condition = self._encode([caption])
        return condition.each(lambda part: part.float())

    def _encode(self, captions: Sequence[str]) -> Condition:
        encoders = self.load()
        device = next(encoders[0].parameters()).device
        tokens = self.family.tokenize(captions, self.max_token_length, self.weighted)
        return self.family.encode_text(encoders, [each.to(device) for each in tokens], self.clip_skip)


def captions_of_run(
    datasets: Datasets, plan: Plan, prompts: Iterable[Prompt] = (), others: Iterable[str] = ()
) -> Iterator[str]:
    """Every text that the run will read: captions as they will come in each step, the previews' prompts, `others`."""
    yield from others
    yield from _captions_of(datasets.train, plan)
    if datasets.validation:
        # It looks at the same captions each time.
        yield from (datasets.validation.caption_of(sample, 0) for sample in datasets.validation.samples)
    for prompt in prompts:
        yield from texts_of(prompt)


def warn_of_cut_captions(settings: Settings, family: Family, dataset: Dataset) -> None:
    """Says how many captions are longer than `max_token_length`, and how long the longest is, in tokens."""
    limit = settings.max_token_length
    lengths = []
    for picture in dataset.pictures:
        # No token is shorter than a byte, so that most captions need not be taken apart.
        texts = [text for text in whole_captions(picture.caption, picture.subset) if len(text.encode()) > limit]
        lengths.append(max((family.token_count(text, settings.weighted_captions) for text in texts), default=0))
    cut = sum(length > limit for length in lengths)
    if cut:
        enough = [str(length) for length in MAX_TOKEN_LENGTHS if length >= max(lengths)]
        remedy = f"set max_token_length = {enough[0]}, or shorten them" if enough else "shorten them"
        warn(
            f"{cut} of {len(lengths)} captions are cut off after {limit} tokens; the longest has {max(lengths)}. "
            f"To have all of it read, {remedy}."
        )


def _captions_of(dataset: Dataset, plan: Plan) -> Iterator[str]:
    """The captions of training: the first epoch says it all where nothing varies."""
    varies = not all(is_constant(subset) for subset in {picture.subset for picture in dataset.pictures})
    for epoch in range(plan.epochs if varies else 1):
        first = epoch * plan.steps_per_epoch
        for step, batch in enumerate(dataset.plan(epoch, plan.times), first):
            if step >= plan.steps:
                return
            for sample in batch:
                yield dataset.caption_of(sample, epoch, step, plan.steps)
