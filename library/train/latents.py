"""Where the latents and masks of samples come from: memory, the cache on disk, or the pictures and the VAE."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from library.data.cache import Caches
from library.data.dataset import Dataset
from library.data.encoding import wanted_views
from library.data.epochs import Sample
from library.data.images import load_masks, load_pixels
from library.data.pictures import Picture
from library.data.views import View

# Up to this much, the latents of a whole set stay on the device for the length of the run.
RESIDENT_BYTES = 1 << 30
# Mean and log-variance are 2 x 4 numbers for 64 pixels of 3 numbers.
PIXELS_TO_LATENTS = 24


class Reading(NamedTuple):
    """What is read of a batch without a model.

    The latents' mean and log-variance, each (batch, 4, height / 8, width / 8), or else pixels that are still to be
    encoded, (batch, 3, height, width); and (batch, 1, height / 8, width / 8) of masks where the dataset has some.
    """

    mean: Tensor | None = None
    logvar: Tensor | None = None
    pixels: Tensor | None = None
    mask: Tensor | None = None


class Latents:
    """The source of one dataset's latents; `read` needs no model, so that threads and other processes can do it."""

    def __init__(self, dataset: Dataset, caches: Caches | None, device: torch.device) -> None:
        """Without `caches` the pictures themselves are read, and `Batches` encodes them."""
        self.dataset, self.caches = dataset, caches
        self.is_resident = caches is not None and self._fits_in_memory()
        self._memory: dict[Path, tuple[Tensor, ...]] = {}
        if self.is_resident:
            self._fill_memory(device)

    def read(self, samples: Sequence[Sample], epoch: int) -> Reading:
        """The batch of these samples as they are shown in `epoch`."""
        shown = [(sample.picture, self.dataset.view_of(sample, epoch)) for sample in samples]
        mask = torch.stack([self._mask_of(*each) for each in shown]) if self.dataset.has_masks else None
        pairs = [self._latents_of(*each) for each in shown]
        found = [pair for pair in pairs if pair is not None]
        if len(found) == len(pairs):
            means, logvars = (torch.stack(tensors) for tensors in zip(*found, strict=True))
            return Reading(mean=means, logvar=logvars, mask=mask)
        pixels = [load_pixels(picture, [view])[0] for picture, view in shown]
        return Reading(pixels=torch.stack(pixels), mask=mask)

    def keep(self, samples: Sequence[Sample], epoch: int, mean: Tensor, logvar: Tensor) -> None:
        """Puts back what was lost or damaged in the cache since the run began."""
        if self.caches is None:
            return
        for sample, *pair in zip(samples, mean, logvar, strict=True):
            view = self.dataset.view_of(sample, epoch)
            self.caches.latents.put(sample.picture, view, *pair)
            if self.is_resident:
                self._memory[self.caches.latents.path_of(sample.picture, view)] = tuple(pair)

    def _fits_in_memory(self) -> bool:
        size = 0
        for wanted in wanted_views(self.dataset):
            size += wanted.bytes // PIXELS_TO_LATENTS
            if size > RESIDENT_BYTES:
                return False
        return True

    def _fill_memory(self, device: torch.device) -> None:
        """Everything that is to be read, by its place in the caches."""
        assert self.caches is not None
        for picture, views in wanted_views(self.dataset):
            for view in views:
                pair = self.caches.latents.get(picture, view)
                if pair is not None:
                    path = self.caches.latents.path_of(picture, view)
                    self._memory[path] = tuple(tensor.to(device) for tensor in pair)
                if picture.mask:
                    path = self.caches.masks.path_of(picture, view)
                    self._memory[path] = (self.caches.masks.get(picture, view).to(device),)

    def _latents_of(self, picture: Picture, view: View) -> tuple[Tensor, ...] | None:
        if self.caches is None:
            return None
        if self.is_resident:
            return self._memory.get(self.caches.latents.path_of(picture, view))
        return self.caches.latents.get(picture, view)

    def _mask_of(self, picture: Picture, view: View) -> Tensor:
        if self.caches is None:
            return load_masks(picture, [view])[0]
        if self.is_resident and picture.mask:
            return self._memory[self.caches.masks.path_of(picture, view)][0]
        return self.caches.masks.get(picture, view)
