"""From a picture file to pixels: upright, on white, resized to cover its bucket, the middle of it."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from library.data.buckets import Placing, Size
from library.data.decoding import read_picture
from library.data.pictures import Picture
from library.errors import InputError

REDUCING_GAP = 3.0  # large pictures are averaged down to 3 times the size before Lanczos, which is faster


def load_pixels(picture: Picture, flip: bool) -> Tensor:
    """What is trained on, (3, height, width) float32 in [-1, 1], mirrored left to right if `flip`."""
    try:
        image = fit(read_picture(picture.path), picture.placing)
    except ValueError as error:  # it was whole when the run began
        raise InputError(f"the picture {picture.path} cannot be read any more: {error}.") from error
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
    return (pixels.flip(2) if flip else pixels).contiguous()


def fit(image: Image.Image, placing: Placing) -> Image.Image:
    """The picture resized (Lanczos) and cropped to the middle."""
    if image.size != placing.resized:
        image = image.resize(placing.resized, Image.Resampling.LANCZOS, reducing_gap=REDUCING_GAP)
    return image.crop(crop_box(placing))


def crop_box(placing: Placing) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the middle of the resized picture, in pixels."""
    size: Size = placing.size
    left, top = ((whole - part) // 2 for whole, part in zip(placing.resized, size, strict=True))
    return left, top, left + size[0], top + size[1]
