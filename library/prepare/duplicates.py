"""Copies among pictures: the same bytes, or the same picture resized, recompressed, cropped a little or mirrored."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn

Plane = NDArray[np.float32]

HASH_INPUT = 32  # pixels; the side of what is hashed
HASH_SIDE = 8  # 8 x 8 lowest frequencies: 64 bits
CROPS = (0.0, 0.04, 0.08)  # cut off on each side before hashing, so that a crop resembles one of them
VARIANTS = 2 * len(CROPS)  # each crop as it is, then each mirrored
NEAR_BITS = 14  # of 64; unrelated photographs are this close once in some 5000 pairs, and are then compared closely
TINY_SIDE = 24  # pixels; the side of the little picture that is compared closely
COMPARED_SIDE = 16  # cells that it is compared in
CUTS = (0.0, 0.05, 0.1)  # parts that may be missing on each side
COARSE_SIDE, COARSE_DISTANCE = 4, 15.0  # cells and levels of 255; farther apart, no crop brings pictures together
NEAR_LEVELS = 14.0  # the most that cells of the same picture differ by in the mean, of 255 levels
NEAR_PART = 0.5  # and the most as part of the picture's own contrast, for pictures that have little
NOISE = 1.5  # levels that are always allowed, for plain pictures
BATCH = 64  # tiny pictures compared at a time: some 20 MB


@dataclass(frozen=True)
class Fingerprint:
    """What a picture is recognised by: a perceptual hash of each variant, and a tiny picture as (24, 24, 3) bytes."""

    hashes: tuple[int, ...]
    tiny: bytes


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB picture; proportions do not matter."""
    grey = image.convert("L")
    spectra = [_spectrum(grey, cut) for cut in CROPS]
    # Mirroring a picture turns the signs of the odd frequencies.
    signs = np.where(np.arange(HASH_SIDE) % 2, -1, 1)
    mirrored = [spectrum * signs for spectrum in spectra]
    tiny = image.resize((TINY_SIDE, TINY_SIDE), Image.Resampling.BOX)
    return Fingerprint(tuple(_bits(spectrum) for spectrum in spectra + mirrored), tiny.tobytes())


def exact_groups(names: Sequence[Hashable]) -> list[list[int]]:
    """The positions of equal names, such as hashes of files, of those that occur more than once."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return [group for group in places.values() if len(group) > 1]


def near_groups(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """The positions of pictures that show the same: found by their hashes, then compared closely."""
    if len(prints) < 2:
        return []
    tiny = np.frombuffer(b"".join(each.tiny for each in prints), dtype=np.uint8)
    tiny = tiny.reshape(len(prints), TINY_SIDE, TINY_SIDE, 3)
    coarse = _coarse(tiny)
    labels = np.arange(len(prints))  # pictures of one label belong together
    for place, others, is_mirrored in close_hashes(np.array([each.hashes for each in prints], dtype=np.uint64)):
        turn = slice(None, None, -1 if is_mirrored else 1)
        others = others[labels[others] != labels[place]]
        distances = np.abs(coarse[others] - coarse[place][:, turn]).mean(axis=(1, 2, 3))
        others = others[distances <= COARSE_DISTANCE]
        for other in others[_covers(tiny[place][:, turn], tiny[others])]:
            labels[labels == labels[other]] = labels[place]
    return exact_groups(labels.tolist())


def close_hashes(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.int64], bool]]:
    """The position of a picture, those that its variants resemble, and whether it is mirrored for that.

    The one it resembles may be a part of it, and comes with the same in its own turn if it resembles it too.

    Args:
        hashes: (pictures, 6), the variants of each as `fingerprint` orders them

    Each is compared with all, at half a nanosecond a pair: 100,000 pictures take half a minute.
    """
    whole = np.ascontiguousarray(hashes[:, 0])
    for variant in range(VARIANTS):
        for place, own in enumerate(hashes[:, variant]):
            others = np.flatnonzero(np.bitwise_count(whole ^ own) <= NEAR_BITS)
            others = others[others != place]
            if len(others):
                yield place, others, variant >= len(CROPS)


def _spectrum(grey: Image.Image, cut: float) -> Plane:
    """The lowest frequencies (8, 8) of the middle of a picture."""
    width, height = grey.size
    box = (width * cut, height * cut, width * (1 - cut), height * (1 - cut))
    small = grey.resize((HASH_INPUT, HASH_INPUT), Image.Resampling.LANCZOS, box, reducing_gap=2)
    spectrum: Plane = dctn(np.asarray(small, dtype=np.float32), norm="ortho")[:HASH_SIDE, :HASH_SIDE]
    return spectrum


def _bits(spectrum: Plane) -> int:
    """64 bits: which frequencies are above the median of all but the mean (Zauner's pHash, 2010, section 3.2.1)."""
    flat = np.rint(spectrum.ravel())  # so that a plain picture has no noise of its own
    return int.from_bytes(np.packbits(flat > np.median(flat[1:])).tobytes(), "big")


def _covers(whole: NDArray[np.uint8], parts: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the tiny pictures (n, 24, 24, 3) are a whole one (24, 24, 3), at most a tenth missing on each side."""
    crops = _through(_windows(tuple(product(CUTS, CUTS)), COMPARED_SIDE), whole[None])
    close = np.zeros(len(parts), dtype=bool)
    for start in range(0, len(parts), BATCH):
        seen = _through(_windows(((0.0, 0.0),), COMPARED_SIDE), parts[start : start + BATCH])
        distance = np.abs(crops - seen).mean(axis=(3, 4, 5)).min(axis=(1, 2))
        contrast = np.abs(seen - seen.mean(axis=(3, 4), keepdims=True)).mean(axis=(1, 2, 3, 4, 5))
        close[start : start + BATCH] = (distance <= NEAR_LEVELS) & (distance <= NEAR_PART * contrast + NOISE)
    return close


def _coarse(tiny: NDArray[np.uint8]) -> Plane:
    """The mean colours (n, 4, 4, 3) of tiny pictures."""
    side = TINY_SIDE // COARSE_SIDE
    cells = tiny.reshape(len(tiny), COARSE_SIDE, side, COARSE_SIDE, side, 3)
    return cells.mean(axis=(2, 4), dtype=np.float32)


@cache
def _windows(cuts: tuple[tuple[float, float], ...], cells: int) -> Plane:
    """Matrices (cuts, cells, 24) that average a side of 24 pixels to cells, with parts cut off at both its ends."""
    edges = np.stack([np.linspace(start, 1 - end, cells + 1) * TINY_SIDE for start, end in cuts])
    pixels = np.arange(TINY_SIDE)
    shares = np.minimum(edges[:, 1:, None], pixels + 1) - np.maximum(edges[:, :-1, None], pixels)
    shares = np.maximum(shares, 0)
    return (shares / shares.sum(axis=2, keepdims=True)).astype(np.float32)


def _through(windows: Plane, pictures: NDArray[np.uint8]) -> Plane:
    """Tiny pictures (n, 24, 24, 3) as seen through each window down and across: (n, down, across, cells, cells, 3)."""
    down = np.einsum("acy,nyxk->nacxk", windows, pictures.astype(np.float32), optimize=True)
    return np.einsum("bdx,nacxk->nabcdk", windows, down, optimize=True)
