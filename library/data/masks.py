"""Masks that say how much each pixel of a picture counts: found beside it or in a folder, and read to its size."""

import time
from functools import lru_cache
from pathlib import Path

from PIL import Image

from library.data.buckets import Size
from library.data.decoding import alpha_of, flatten, read_upright, reason_of
from library.data.folders import EXTENSIONS, MASK_ENDING
from library.errors import InputError

LARGEST_STRETCH = 0.01  # by which the shapes of mask and picture may differ; sizes of copies are rounded
SETTLED = 2_000_000_000  # nanoseconds after which a folder's time of change tells whether it has changed again


def mask_name(picture: Path) -> str:
    """The name of a picture's mask file: `photo-masklabel.png` for `photo.jpg`."""
    return f"{picture.stem}{MASK_ENDING}.png"


def find_mask(picture: Path, folder: Path | None = None) -> Path | None:
    """The file of a picture's mask, or None where it has none.

    In `folder`, which sd-scripts calls `conditioning_data_dir`, it has the picture's name with the ending of any
    kind of picture, or is called `photo-masklabel.png`, which is also its name beside the picture. The folder goes
    first. Raises InputError where the folder cannot be read.
    """
    if folder is not None:
        names = _names_in(folder)
        for stem in (picture.stem, f"{picture.stem}{MASK_ENDING}"):
            path = folder / names.get(stem, "")
            if stem in names and path.absolute() != picture.absolute():
                return path
    beside = picture.with_name(mask_name(picture))
    return beside if beside.is_file() else None


def read_mask(path: Path, size: Size, alpha_mask: bool = False) -> Image.Image:
    """How much each pixel counts, "L" of `size`: 255 fully, 0 not at all.

    A mask in colours is read by its red channel, as in sd-scripts, and what is transparent in it counts as black.
    Colour profiles are passed over: a mask's numbers are no colours. One of another size is scaled.

    Args:
        path: the mask's file, or the picture's own for `alpha_mask`
        size: (width, height) of the upright picture in pixels
        alpha_mask: whether how opaque the picture is, is its mask; one without transparency counts as a whole

    Raises InputError where the file cannot be read or has another shape than the picture.
    """
    try:
        image = read_upright(path.read_bytes())
        image.info.pop("icc_profile", None)
        if alpha_mask:
            mask = alpha_of(image) or Image.new("L", image.size, 255)
        else:
            mask = flatten(image, "black").getchannel("R")
    except Exception as error:  # decoders of broken files raise nearly everything
        raise InputError(f"the mask {path} cannot be read: {reason_of(error)}.") from error
    if mask.size == tuple(size):
        return mask
    wrong = misfit(path, mask.size, size)
    if wrong:
        raise InputError(wrong)
    return mask.resize(size, Image.Resampling.BILINEAR)


def _names_in(folder: Path) -> dict[str, str]:
    """The pictures that lie in a folder, by their names without the ending."""
    try:
        changed = folder.stat().st_mtime_ns
        # Within the coarse steps of that time the folder may change unseen, so it is listed anew for a while.
        is_settled = time.time_ns() - changed > SETTLED
        return (_listed if is_settled else _listed.__wrapped__)(folder, changed)
    except OSError as error:
        raise InputError(f"the folder of masks {folder} cannot be read: {error.strerror}.") from error


@lru_cache(maxsize=64)
def _listed(folder: Path, changed: int) -> dict[str, str]:
    """As above, for a folder that was changed at that time; .png goes before .jpg where a name is there twice."""
    rank = {extension: number for number, extension in enumerate(reversed(EXTENSIONS))}
    found = [path for path in folder.iterdir() if path.suffix.lower() in rank]
    found.sort(key=lambda path: (rank[path.suffix.lower()], path.name))
    return {path.stem: path.name for path in found}


def _same_shape(size: Size, other: Size) -> bool:
    stretch = (size[0] * other[1]) / (size[1] * other[0])
    return abs(stretch - 1) <= LARGEST_STRETCH


def misfit(path: Path, size: Size, wanted: Size) -> str | None:
    """What is wrong with a mask of `size` for an upright picture of the size `wanted`, if anything."""
    if _same_shape(size, wanted):
        return None
    (width, height), (wide, high) = size, wanted
    turned = _same_shape((height, width), wanted)
    hint = "it seems to be made of the picture before it was turned upright; make it anew" if turned else (
        "make it anew, or scale it to the picture's shape"
    )
    return f"the mask {path} is {width} x {height} pixels and its upright picture {wide} x {high}: {hint}."
