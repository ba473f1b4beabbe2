"""The pictures that a person has: sixty good ones of every kind, and forty that are broken in as many ways."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import Image as Picture

from tests.prepare.patients import PHOTOS, draw, photo

GOOD, BAD = 60, 40
SIGNATURE = b"\x89PNG\r\n\x1a\n"
NO_TEXT = b"\xe9".decode(errors="surrogateescape")  # of a name from an old archive, which is no text today
ROTATED = 6  # the EXIF orientation of a telephone held upright
PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 90210\n"


def write_good(folder: Path) -> list[Path]:
    """Sixty different whole pictures; some are of kinds that only cropping reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        photo(name).resize((120, 90)).save(folder / f"{name}{NO_TEXT}.jpg", quality=92)
    for number, (name, content) in zip(range(GOOD - len(PHOTOS)), _whole_pictures(), strict=False):
        (folder / f"{number:02d} {name}").write_bytes(content)
    return sorted(folder.iterdir())


def write_bad(folder: Path) -> list[Path]:
    """Forty files with the names of pictures, none of which can be read."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _broken_contents().items():
        (folder / name).write_bytes(content)
    unnameable = folder / f"caf{NO_TEXT}.jpg"
    unnameable.write_bytes(b"old")
    locked = folder / "locked.png"
    locked.write_bytes(b"nobody but the superuser finds out that this is no picture either")
    locked.chmod(0)
    gone, circle = folder / "link to nowhere.png", folder / "link to itself.jpg"
    gone.symlink_to(folder / "thrown away.png")
    circle.symlink_to(circle)
    return sorted([*(folder / name for name in _broken_contents()), unnameable, locked, gone, circle])


def _whole_pictures() -> Iterator[tuple[str, bytes]]:
    """Names and contents of whole pictures, no two alike, kind after kind and shape after shape, without end."""
    kinds: tuple[tuple[str, Callable[[Picture], bytes]], ...] = (
        ("plain.png", lambda image: _saved(image, "PNG")),
        ("turned.jpg", lambda image: _saved(image, "JPEG", exif=_orientation(ROTATED))),
        ("progressive.jpeg", lambda image: _saved(image, "JPEG", progressive=True)),
        ("printed.jpg", lambda image: _saved(image.convert("CMYK"), "JPEG")),
        ("with a trailer.jpg", lambda image: _saved(image, "JPEG") + b"SEFT" + bytes(300)),
        ("lossy.webp", lambda image: _saved(image, "WEBP")),
        ("exact.webp", lambda image: _saved(image, "WEBP", lossless=True)),
        ("bitmap.bmp", lambda image: _saved(image, "BMP")),
        ("clear.png", lambda image: _saved(_half_clear(image), "PNG")),
        ("palette.png", lambda image: _saved(image.quantize(16), "PNG")),
        ("deep grey.png", lambda image: _saved(_sixteen_bit(image), "PNG")),
        ("grey.JPG", lambda image: _saved(image.convert("L"), "JPEG")),
        ("telephone.heic", lambda image: _saved(image, "HEIF")),
        ("wrongly named ü.png", lambda image: _saved(image, "JPEG")),
        ("moving.gif", lambda image: _saved(image, "GIF", save_all=True, append_images=[image.rotate(90)])),
        ("scan.tif", lambda image: _saved(image, "TIFF")),
    )
    shapes = ((96, 96), (120, 72), (64, 110), (200, 66))
    seed = 0
    while True:
        for name, content_of in kinds:
            yield name, content_of(draw(seed, shapes[seed % len(shapes)]))
            seed += 1


def _broken_contents() -> dict[str, bytes]:
    """Names and contents of thirty-six files that are no whole pictures."""
    image = Image.fromarray(np.random.default_rng(7).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    forms = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "HEIF")
    jpeg, png, bmp, gif, tiff, heif = (_saved(image, form) for form in forms)
    progressive = _saved(image, "JPEG", progressive=True)
    lossy, exact = _saved(image, "WEBP"), _saved(image, "WEBP", lossless=True)
    random = np.random.default_rng(8).bytes(3000)
    return {
        "cut at once.jpg": jpeg[:2],
        "cut in the header.jpg": jpeg[:100],
        "cut in the middle.jpg": _half(jpeg),
        "cut at the end.JPG": jpeg[:-2],
        "cut progressive.jpeg": _half(progressive),
        "cut at once.png.png": png[:8],
        "cut in the header.png.png": png[:33],
        "cut in the middle.png.png": _half(png),
        "cut at the end.png.png": png[:-60],
        "cut at once.webp.webp": lossy[:12],
        "cut lossy.webp": _half(lossy),
        "cut exact.webp": exact[:-2],
        "cut in the header.bmp.bmp": bmp[:30],
        "cut at the end.bmp.bmp": bmp[:-3],
        "cut telephone.heic": _half(heif),
        "cut gif.jpg": _half(gif),
        "cut scan.png": _half(tiff),
        "download that broke off.jpg": _half(jpeg) + bytes(len(jpeg) // 2),
        "download that broke off.png.png": _half(png) + bytes(len(png) // 2),
        "empty.png": b"",
        "zeros.jpg": bytes(4096),
        "letter.jpg": b"Dear reader,\n\nI am not a picture.\n",
        "page.png": PAGE,
        "error.webp": b'{"error": "rate limit exceeded"}',
        "archive.jpeg": b"PK\x03\x04" + bytes(60),
        "paper.png": b"%PDF-1.4\n%%EOF\n",
        "drawing.png": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "pointer.png": POINTER,
        "film.heic": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100),
        "sound.webp": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        "random.jpg": random,
        "random within.png": SIGNATURE + random,
        "wrong checksum.png": _with_another_pixel(_saved(image, "PNG", compress_level=0)),
        "without tables.jpg": jpeg[:2] + jpeg[jpeg.index(b"\xff\xc0") :],
        "bomb.png": _promising(50_000, 50_000),
        "promises.png": _promising(25_000, 25_000),
    }


def _saved(image: Picture, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def _half_clear(image: Picture) -> Picture:
    alpha = Image.new("L", image.size, 255)
    alpha.paste(90, (0, 0, image.width // 2, image.height))
    image.putalpha(alpha)
    return image


def _sixteen_bit(image: Picture) -> Picture:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


def _with_another_pixel(content: bytes) -> bytes:
    """A PNG without compression, of which one byte is another than its checksums say."""
    place = content.index(b"IDAT") + 104
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


def _promising(width: int, height: int) -> bytes:
    """A PNG that says it is huge, and holds the first thousand bytes."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    return SIGNATURE + b"".join(map(_chunk, *zip(*chunks, strict=True)))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
