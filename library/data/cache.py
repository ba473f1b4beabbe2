"""Latents and masks on disk, named by what they are made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from library.data.entries import entry_path, read_entry, write_entry
from library.data.images import load_masks
from library.data.pictures import Picture
from library.data.views import LANCZOS, Colour, View
from library.files import write_atomically

VERSION = 2  # goes up when pixels are made differently, so that old entries are not found any more

Latents = tuple[Tensor, Tensor]


class LatentCache:
    """Mean and log-variance of each picture's latents, (channels, height / 8, width / 8) float32.

    An entry's name is a hash of the picture's bytes, of how it is shown and of `vae_fingerprint`, which stands for
    the VAE's weights and for the precision they are used in.
    """

    def __init__(self, folder: Path, vae_fingerprint: str) -> None:
        self.folder = Path(folder) / "latents"
        self._fingerprint = vae_fingerprint

    def path_of(self, picture: Picture, view: View) -> Path:
        """The file that holds, or would hold, the latents of a picture shown like this."""
        plain = (*view.resized, *view.size, view.flip)
        return entry_path(self.folder, (VERSION, self._fingerprint, picture.sha256, *plain, *_unusual(view)))

    def get(self, picture: Picture, view: View) -> Latents | None:
        """Mean and log-variance, or None where there is no entry or a damaged one."""
        found = read_entry(self.path_of(picture, view), ("mean", "logvar"))
        return (found[0], found[1]) if found else None

    def put(self, picture: Picture, view: View, mean: Tensor, logvar: Tensor) -> None:
        """Writes an entry, whole or not at all; the tensors may be of any dtype and on any device."""
        write_entry(self.path_of(picture, view), {"mean": mean, "logvar": logvar})

    def note_overflow(self, picture: Picture, view: View) -> None:
        """Remembers that the VAE makes no finite numbers of this in this precision."""
        write_atomically(self._note_of(picture, view), lambda path: path.write_bytes(b""))

    def overflows(self, picture: Picture, view: View) -> bool:
        """Whether that is known."""
        return self._note_of(picture, view).exists()

    def _note_of(self, picture: Picture, view: View) -> Path:
        return self.path_of(picture, view).with_suffix(".overflow")


class MaskCache:
    """How much each latent counts, (1, height / 8, width / 8) float32 in [0, 1], made from large mask files once.

    An entry's name is a hash of the mask's bytes, of the picture's size and of how the picture is shown.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder) / "masks"

    def path_of(self, picture: Picture, view: View) -> Path:
        """The file that holds, or would hold, the mask of a picture that has one, shown like this."""
        assert picture.mask is not None
        plain = (picture.mask.is_alpha, picture.width, picture.height, *view.resized, *view.size, view.flip)
        return entry_path(self.folder, (VERSION, picture.mask.sha256, *plain, *_unusual(view.geometry)))

    def get(self, picture: Picture, view: View) -> Tensor:
        """The mask, made anew where there is no entry or a damaged one; all 1 for a picture without a mask."""
        found = read_entry(self.path_of(picture, view), ("mask",)) if picture.mask else None
        return found[0] if found else load_masks(picture, [view])[0]

    def fill(self, picture: Picture, views: Sequence[View]) -> None:
        """Makes the entries that are missing of a picture's mask. Raises InputError where it does not fit."""
        if picture.mask is None:
            return
        places = {self.path_of(picture, view): view for view in views}
        missing = {path: view for path, view in places.items() if not path.exists()}
        if missing:
            masks = load_masks(picture, list(missing.values()))
            for path, mask in zip(missing, masks, strict=True):
                write_entry(path, {"mask": mask})


class Caches(NamedTuple):
    """Everything that is kept on disk for a run."""

    latents: LatentCache
    masks: MaskCache


def _unusual(view: View) -> list[str]:
    """What is not as in a plain view, so that plain views are named as before there were others."""
    words = [] if view.is_centred else [f"corner {view.corner}"]
    words += [] if view.resampling == LANCZOS else [view.resampling]
    return words + ([] if view.colour == Colour() else [f"colour {tuple(view.colour)}"])
