"""Buckets: the few sizes that pictures are brought to, so that a batch has one size and little is cut off."""

import math
from typing import NamedTuple

from library.data.folders import Subset
from library.errors import InputError

Size = tuple[int, int]
VAE_FACTOR = 8  # pixels to one latent, in every Stable Diffusion


class Placing(NamedTuple):
    """How a picture fills its bucket: resized to `resized`, then the middle `size` of it; (width, height)."""

    resized: Size
    size: Size


def bucket_sizes(resolution: Size, lowest: int, highest: int, step: int) -> list[Size]:
    """The (width, height) that sd-scripts makes: sides in whole steps, area at most that of `resolution`.

    Args:
        resolution: (width, height) in pixels, whose area is not exceeded
        lowest: shortest side; taken as the resolution's shorter side where that is smaller
        highest: longest side
        step: every side is a multiple of it
    """
    area = resolution[0] * resolution[1]
    lowest = max(step, min(lowest, *resolution) // step * step)
    highest = math.ceil(highest / step) * step
    square = math.isqrt(area) // step * step
    sizes = {(square, square)}
    for width in range(lowest, highest + 1, step):
        height = min(highest, area // width // step * step)
        if height >= lowest:
            sizes |= {(width, height), (height, width)}
    return sorted(sizes)


def subset_buckets(subset: Subset) -> list[Size]:
    """The buckets of a subset: one without `enable_bucket`, none where each picture makes its own.

    Raises InputError where the sizes do not fit together.
    """
    _check_sizes(subset)
    if not subset.enable_bucket:
        return [subset.resolution]
    if subset.bucket_no_upscale:
        return []
    return bucket_sizes(
        subset.resolution, subset.min_bucket_reso, subset.max_bucket_reso, subset.bucket_reso_steps
    )


def place(picture: Size, buckets: list[Size], subset: Subset) -> Placing:
    """Where a picture of (width, height) goes: the bucket nearest in aspect ratio, which it covers.

    Without buckets (`bucket_no_upscale`) the picture is shrunk to the resolution's area if it is larger, and
    loses at most one step of each side.
    """
    if not buckets:
        return _place_without_upscaling(picture, subset)
    ratio = picture[0] / picture[1]
    size = min(buckets, key=lambda bucket: abs(bucket[0] / bucket[1] - ratio))
    return Placing(cover(picture, size), size)


def cover(picture: Size, size: Size) -> Size:
    """The smallest size in the picture's own proportions that covers `size`; (width, height)."""
    scale = max(size[0] / picture[0], size[1] / picture[1])
    return max(size[0], _whole(picture[0] * scale)), max(size[1], _whole(picture[1] * scale))


def _place_without_upscaling(picture: Size, subset: Subset) -> Placing:
    step = subset.bucket_reso_steps
    resized = _shrink(picture, subset.resolution[0] * subset.resolution[1], step)
    size = _floor(resized[0], step), _floor(resized[1], step)
    # A side shorter than one step has to grow after all: there is no smaller bucket.
    if resized[0] < size[0] or resized[1] < size[1]:
        resized = cover(picture, size)
    return Placing(resized, size)


def _shrink(picture: Size, area: int, step: int) -> Size:
    """At most `area`, with the width or the height in whole steps, whichever keeps the proportions better."""
    width, height = picture
    if width * height <= area:
        return picture
    ratio = width / height
    by_width = _floor(math.sqrt(area * ratio), step)
    by_height = _floor(math.sqrt(area / ratio), step)
    loss_by_width = abs(by_width / _floor(by_width / ratio, step) - ratio)
    loss_by_height = abs(_floor(by_height * ratio, step) / by_height - ratio)
    if loss_by_width < loss_by_height:
        return by_width, max(1, _whole(by_width / ratio))
    return max(1, _whole(by_height * ratio)), by_height


def _floor(length: float, step: int) -> int:
    """Whole steps, at least one."""
    return max(step, _whole(length) // step * step)


def _whole(length: float) -> int:
    """The nearest whole number, of two the upper one, as sd-scripts rounds."""
    return int(length + 0.5)


def _check_sizes(subset: Subset) -> None:
    where = f"for {subset.image_dir}"
    width, height = subset.resolution
    if min(width, height) < VAE_FACTOR or width % VAE_FACTOR or height % VAE_FACTOR:
        raise InputError(f"resolution is {width}x{height} {where}; both must be multiples of {VAE_FACTOR}.")
    if not subset.enable_bucket:
        return
    step = subset.bucket_reso_steps
    if step < VAE_FACTOR or step % VAE_FACTOR:
        raise InputError(f"bucket_reso_steps is {step} {where}; it must be a multiple of {VAE_FACTOR}.")
    if step > min(width, height):
        raise InputError(
            f"bucket_reso_steps is {step} {where}, above the resolution {width}x{height}; make it smaller."
        )
    if subset.max_bucket_reso < max(width, height) and not subset.bucket_no_upscale:
        raise InputError(
            f"max_bucket_reso is {subset.max_bucket_reso} {where}, below the resolution {width}x{height}; "
            f"set it to {max(width, height)} or more."
        )
