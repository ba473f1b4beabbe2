"""From picture and mask files to what is trained on: upright, on white, shown as a view asks."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from library.data.buckets import VAE_FACTOR
from library.data.decoding import read_picture
from library.data.masks import read_mask
from library.data.pictures import Picture
from library.data.views import PLAIN_GAMMA, Colour, View, averaging
from library.errors import InputError

REDUCING_GAP = 3.0  # large pictures are averaged down to 3 times the size before Lanczos, which is faster
FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
}


def load_pixels(picture: Picture, views: Sequence[View]) -> list[Tensor]:
    """What is trained on, for each view: (3, height, width) float32 in [-1, 1]. The file is read once."""
    try:
        image = read_picture(picture.path)
    except ValueError as error:  # it was whole when the run began
        raise InputError(f"the picture {picture.path} cannot be read any more: {error}.") from error
    shown = [np.array(show(image, view), dtype=np.float32) for view in views]
    return [(torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1).contiguous() for pixels in shown]


def load_masks(picture: Picture, views: Sequence[View]) -> list[Tensor]:
    """How much each latent counts in each view, (1, height / 8, width / 8) float32 in [0, 1]; 1 without a mask."""
    mask = picture.mask
    if mask is None:
        return [torch.ones(1, view.size[1] // VAE_FACTOR, view.size[0] // VAE_FACTOR) for view in views]
    image = read_mask(mask.path, (picture.width, picture.height), mask.is_alpha)
    loaded = []
    for view in views:
        shown = show(image, view._replace(resampling=averaging(image.size, view.resized), colour=Colour()))
        whole = torch.from_numpy(np.array(shown, dtype=np.float32)) / 255
        loaded.append(torch.nn.functional.avg_pool2d(whole[None], VAE_FACTOR))
    return loaded


def show(image: Image.Image, view: View) -> Image.Image:
    """The part of a whole, upright picture that a view shows."""
    if image.size != view.resized:
        # Averaging beforehand is for filters that look far; a box averages itself.
        gap = None if view.resampling == "box" else REDUCING_GAP
        image = image.resize(view.resized, FILTERS[view.resampling], reducing_gap=gap)
    (left, top), (width, height) = view.corner, view.size
    image = recolour(image.crop((left, top, left + width, top + height)), view.colour)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if view.flip else image


def recolour(image: Image.Image, colour: Colour) -> Image.Image:
    """The picture with its hue turned and its gamma changed."""
    if colour.hue:
        hue, saturation, value = image.convert("HSV").split()
        hue = hue.point([(step + colour.hue) % 256 for step in range(256)])
        image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if colour.gamma != PLAIN_GAMMA:
        power = colour.gamma / 100
        image = image.point([round(255 * (shade / 255) ** power) for shade in range(256)] * 3)
    return image
