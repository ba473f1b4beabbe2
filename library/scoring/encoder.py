"""A CLIP model of open_clip: pictures and words as vectors, whose cosine says how alike they are."""

from collections.abc import Iterator, Sequence
from typing import Any

import open_clip
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from library.errors import InputError
from library.scoring.places import REMEDY, place_of

BATCH = 16


class Encoder:
    """What `load_encoder` gives: pictures and words to vectors of length 1, (count, width) float32 on the CPU."""

    def __init__(self, model: Any, prepare: Any, tokenize: Any, device: torch.device) -> None:
        self._model, self._prepare, self._tokenize, self._device = model.to(device).eval(), prepare, tokenize, device

    @torch.no_grad()
    def pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """The vectors of RGB pictures of any size; each is brought to the model's size in the model's own way."""
        found = []
        for some in _batches(pictures):
            pixels = torch.stack([self._prepare(picture) for picture in some]).to(self._device)
            found.append(normalize(self._model.encode_image(pixels).float(), dim=-1).cpu())
        return torch.cat(found)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """The vectors of texts; what is longer than the model reads is cut."""
        found = []
        for some in _batches(texts):
            tokens = self._tokenize(list(some)).to(self._device)
            found.append(normalize(self._model.encode_text(tokens).float(), dim=-1).cpu())
        return torch.cat(found)


def load_encoder(name: str, device: torch.device) -> Encoder:
    """The open_clip model in a folder, or of a hub id.

    Raises InputError where there is none, saying where to get one.
    """
    known = place_of(name)
    try:
        model, prepare = open_clip.create_model_from_pretrained(known)
        tokenize = open_clip.get_tokenizer(known)
    except Exception as error:  # open_clip and the hub's client raise all kinds, by version
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"the open_clip model {name} cannot be loaded ({reason}); {REMEDY}.") from None
    return Encoder(model, prepare, tokenize, device)


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
