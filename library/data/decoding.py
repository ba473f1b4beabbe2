"""From a file's bytes to a picture: whatever it is made of, upright, in sRGB, on white."""

import io
import warnings
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pillow_heif
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError, features

pillow_heif.register_heif_opener()
LARGEST = 800  # megapixels; telephones make pictures of 200
Image.MAX_IMAGE_PIXELS = LARGEST * 10**6 // 2  # twice this is an attack to Pillow
# Its warnings name no file; what is broken shows when it is decoded.
warnings.filterwarnings("ignore", module="PIL")

# By content, whatever a file is called; formats that start other programs (EPS) stay out.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "HEIF") + (("AVIF",) if features.check("avif") else ())
JPEG_START = b"\xff\xd8"
SRGB = ImageCms.createProfile("sRGB")
# The kinds of pixels that a colour profile can speak of, by the space that the profile is for.
PROFILED_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


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
        raise ValueError(reason_of(error)) from error
    return Facts(sha256(content).hexdigest(), width, height)


def read_picture(path: Path) -> Image.Image:
    """The picture in a file, upright, RGB, on white. Raises ValueError with the reason where it cannot be read."""
    try:
        return flatten(read_upright(path.read_bytes()))
    except Exception as error:
        raise ValueError(reason_of(error)) from error


def read_upright(content: bytes) -> Image.Image:
    """The picture in a file's bytes, or the first of several, turned as its EXIF orientation asks."""
    if not content:
        raise ValueError("the file is empty")
    if content.startswith(JPEG_START):
        content = content.rstrip(b"\0")  # of a download that broke off: decoders show grey for it, and no error
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a sound picture with broken EXIF data is as good as one without
        return image


def flatten(image: Image.Image, ground: str = "white") -> Image.Image:
    """Any kind of picture (palette, grey, 16 bit, CMYK, transparent) as sRGB, lying on a ground of one colour."""
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    if not image.has_transparency_data:
        return _in_srgb(image)
    if image.mode == "P":  # whose way to RGB Pillow warns of
        image = image.convert("RGBA")
    alpha = image.convert("RGBA").getchannel("A")
    return Image.composite(_in_srgb(image), Image.new("RGB", image.size, ground), alpha)


def alpha_of(image: Image.Image) -> Image.Image | None:
    """How opaque each pixel is, "L" of 0 to 255, or None for a picture without transparency."""
    return image.convert("RGBA").getchannel("A") if image.has_transparency_data else None


def reason_of(error: Exception) -> str:
    """Why a picture could not be read, in words that end without a full stop."""
    if isinstance(error, UnidentifiedImageError):
        return "its content is not a picture"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has, or says that it has, more than {LARGEST} megapixels"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return f"the file is damaged: {words}" if isinstance(error, OSError) else words


def _in_srgb(image: Image.Image) -> Image.Image:
    """The picture in RGB, its colours turned from those of its own profile into sRGB's."""
    content = image.info.get("icc_profile")
    if content:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(content))
            space = profile.profile.xcolor_space.strip()
            if "sRGB" not in ImageCms.getProfileDescription(profile) and space in PROFILED_MODES:
                plain = image.convert(PROFILED_MODES[space])
                turned = ImageCms.profileToProfile(plain, profile, SRGB, outputMode="RGB")
                assert turned is not None
                return turned
        except (ImageCms.PyCMSError, OSError):  # a broken profile: the picture as if it had none
            pass
    return image.convert("RGB")


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey; Pillow's own conversion would cut everything above 255 off."""
    grey = np.asarray(image).astype(np.float32)
    return Image.fromarray((grey / 257).round().clip(0, 255).astype(np.uint8))
