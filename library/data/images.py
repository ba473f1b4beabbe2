"""From a picture file to pixels: upright, on white, resized to cover its bucket, the middle of it."""

import io
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError, features
from torch import Tensor

from library.data.buckets import Placing, Size
from library.data.pictures import Picture
from library.errors import InputError

# By content, whatever a file is called; formats that start other programs (EPS) stay out.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF") + (("AVIF",) if features.check("avif") else ())
REDUCING_GAP = 3.0  # large pictures are averaged down to 3 times the size before Lanczos, which is faster


class Facts(NamedTuple):
    """What the check of a picture finds out: hash of the bytes, width and height in pixels, upright."""

    sha256: str
    width: int
    height: int


def examine(path: Path) -> Facts:
    """Decodes a whole picture. Raises ValueError with the reason where it cannot be."""
    try:
        content = path.read_bytes()
        width, height = read_upright(content).size
    except Exception as error:  # decoders of broken files raise nearly everything
        raise ValueError(_reason(error)) from error
    return Facts(sha256(content).hexdigest(), width, height)


def load_pixels(picture: Picture, flip: bool) -> Tensor:
    """What is trained on, (3, height, width) float32 in [-1, 1], mirrored left to right if `flip`."""
    try:
        image = fit(flatten(read_upright(picture.path.read_bytes())), picture.placing)
    except Exception as error:  # it was whole when the run began
        raise InputError(f"the picture {picture.path} cannot be read any more: {_reason(error)}.") from error
    pixels = torch.from_numpy(np.array(image, dtype=np.float32)).permute(2, 0, 1) / 127.5 - 1
    return (pixels.flip(2) if flip else pixels).contiguous()


def read_upright(content: bytes) -> Image.Image:
    """The picture in a file's bytes, turned as its EXIF orientation asks."""
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a sound picture with broken EXIF data is as good as one without
        return image


def flatten(image: Image.Image) -> Image.Image:
    """Any kind of picture (palette, grey, 16 bit, CMYK, transparent) as RGB; what is transparent is white."""
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


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


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; Pillow's own conversion would cut everything above 255 off."""
    grey = np.asarray(image).astype(np.float32)
    return Image.fromarray((grey / 257).round().clip(0, 255).astype(np.uint8))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is not a picture"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__
