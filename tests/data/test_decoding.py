"""Decoding: every kind of picture becomes upright sRGB on white, and a broken one is found out."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from library.data.decoding import alpha_of, examine, flatten, read_picture, read_upright
from library.data.folders import EXTENSIONS


def bytes_of(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """A picture file in memory."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def colour_of(content: bytes) -> tuple[int, ...]:
    """The colour of a one-coloured picture after reading."""
    image = flatten(read_upright(content))
    assert image.mode == "RGB"
    return image.getpixel((1, 1))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGB", (4, 4), (10, 20, 30)), (10, 20, 30)),
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (4, 4), (0, 0)), (255, 255, 255)),
        (Image.new("RGB", (4, 4), (10, 20, 30)).convert("P", palette=Image.Palette.ADAPTIVE), (10, 20, 30)),
        (Image.fromarray(np.full((4, 4), 257 * 50, np.uint16)), (50, 50, 50)),
        (Image.fromarray(np.full((4, 4), 65535, np.uint16)), (255, 255, 255)),
    ],
    ids=["rgb", "grey", "bit", "clear", "fifth", "grey-clear", "palette", "grey16", "grey16-white"],
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert colour_of(bytes_of(image)) == expected


def test_a_transparent_colour_of_a_palette_or_rgb_is_white() -> None:
    palette = Image.new("RGB", (4, 4), (10, 20, 30)).quantize(2)
    assert colour_of(bytes_of(palette, transparency=palette.getpixel((1, 1)))) == (255, 255, 255)
    assert colour_of(bytes_of(Image.new("RGB", (4, 4), (1, 2, 3)), transparency=(1, 2, 3))) == (255, 255, 255)


def test_cmyk_jpeg() -> None:
    red = colour_of(bytes_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert red[0] > 240 and red[1] < 15 and red[2] < 15


FORMS = ["PNG", "JPEG", "WEBP", "BMP", "HEIF"] + (["AVIF"] if ".avif" in EXTENSIONS else [])


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_examined(tmp_path: Path, form: str) -> None:
    path = tmp_path / "odd name ü.jpg"
    path.write_bytes(bytes_of(Image.new("RGB", (21, 13), "red"), form))
    assert examine(path)[1:] == (21, 13)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_spoil_a_picture(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(bytes_of(Image.new("RGB", (8, 8)), "JPEG", exif=exif))
    assert examine(tmp_path / "a.jpg")[1:] == (8, 8)


def broken_files() -> dict[str, bytes]:
    """Files that are no whole pictures."""
    noise = Image.effect_noise((64, 64), 90)
    png, jpeg = bytes_of(noise), bytes_of(noise, "JPEG")
    return {
        "empty": b"",
        "text": b"this is no picture",
        "cut png": png[: len(png) // 2],
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "cut webp": bytes_of(noise, "WEBP")[:200],
        "changed png": png[:200] + b"\xff" * 40 + png[240:],
        "only a header": png[:33],
    }


@pytest.mark.parametrize("kind", broken_files())
def test_broken_files_are_found(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.png").write_bytes(broken_files()[kind])
    with pytest.raises(ValueError, match=r"\w"):
        examine(tmp_path / "a.png")


def profiled(image: Image.Image, profile: bytes) -> tuple[int, ...]:
    """The colour of a one-coloured picture that carries a colour profile."""
    return colour_of(bytes_of(image, icc_profile=profile))


def linear_profile() -> bytes:
    """The profile of a grey scanner whose numbers are proportional to light, built byte by byte."""
    tags = {
        b"desc": b"desc\0\0\0\0" + (7).to_bytes(4, "big") + b"linear\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + b"".join(value.to_bytes(4, "big") for value in (63190, 65536, 54061)),
        b"kTRC": b"curv\0\0\0\0" + (0).to_bytes(4, "big"),
    }
    body, table = b"", len(tags).to_bytes(4, "big")
    for name, content in tags.items():
        place = 128 + 4 + 12 * len(tags) + len(body)
        table += name + place.to_bytes(4, "big") + len(content).to_bytes(4, "big")
        body += content + bytes(-len(content) % 4)
    size = 128 + len(table) + len(body)
    header = size.to_bytes(4, "big") + bytes(4) + bytes.fromhex("02100000") + b"scnrGRAYXYZ "
    header += bytes(12) + b"acsp" + bytes(28)
    header += b"".join(value.to_bytes(4, "big") for value in (63190, 65536, 54061))
    return header.ljust(128, b"\0") + table + body


def test_a_colour_profile_is_turned_into_srgb() -> None:
    """Half of the light is 188 of 255 in sRGB (IEC 61966-2-1)."""
    grey = profiled(Image.new("L", (4, 4), 128), linear_profile())
    assert all(abs(value - 188) <= 2 for value in grey), grey


def test_a_picture_in_srgb_stays_as_it_is_and_a_broken_profile_does_no_harm() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.new("RGB", (4, 4), (10, 20, 30))
    assert profiled(picture, srgb) == (10, 20, 30)
    assert profiled(picture, b"no profile") == (10, 20, 30)
    assert profiled(picture, linear_profile()[:150]) == (10, 20, 30)


def test_alpha_is_what_is_opaque() -> None:
    assert alpha_of(Image.new("RGB", (2, 2))) is None
    alpha = alpha_of(Image.new("LA", (2, 2), (9, 77)))
    assert alpha is not None and alpha.getpixel((0, 0)) == 77


def test_a_picture_is_read_or_its_reason_given(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bytes_of(Image.new("LA", (4, 4), (0, 0))))
    assert read_picture(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    (tmp_path / "b.png").write_bytes(b"text")
    with pytest.raises(ValueError, match="its content is not a picture"):
        read_picture(tmp_path / "b.png")


def test_the_rest_of_a_broken_download_is_no_picture(tmp_path: Path) -> None:
    content = bytes_of(Image.effect_noise((64, 64), 90), "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(content[:2000] + bytes(len(content) - 2000))
    with pytest.raises(ValueError, match="the file is damaged: image file is truncated"):
        examine(path)
    path.write_bytes(content + bytes(300))  # whole, with something behind it
    assert examine(path)[1:] == (64, 64)
    black = bytes_of(Image.new("RGB", (4, 4)), "BMP")
    assert black.endswith(bytes(9)) and colour_of(black) == (0, 0, 0)


def promising(width: int, height: int) -> bytes:
    """A bitmap whose header promises more than the file holds."""
    content = bytes_of(Image.new("RGB", (4, 4)), "BMP")
    return content[:18] + width.to_bytes(4, "little") + height.to_bytes(4, "little") + content[26:]


REASONS = {
    "the file is empty": b"",
    "it has, or says that it has, more than 800 megapixels": promising(60_000, 60_000),
    "the file is damaged: ": bytes_of(Image.new("RGB", (9, 9)), "WEBP")[:-2],
    "Unexpected end of file": bytes_of(Image.effect_noise((64, 64), 90).convert("RGB"), "HEIF")[:-20],
}


@pytest.mark.parametrize("words", REASONS)
def test_reasons_are_words_in_one_line(tmp_path: Path, words: str) -> None:
    (tmp_path / "a.png").write_bytes(REASONS[words])
    with pytest.raises(ValueError, match=words) as caught:
        examine(tmp_path / "a.png")
    assert str(caught.value) == " ".join(str(caught.value).split()).rstrip(".")


def test_nothing_is_said_that_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.bmp").write_bytes(promising(25_000, 25_000))
    code = "import sys, pathlib; from library.data.decoding import examine\n"
    code += "try: examine(pathlib.Path(sys.argv[1]))\nexcept ValueError: print('refused')"
    command = [sys.executable, "-c", code, str(tmp_path / "a.bmp")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (result.stdout, result.stderr) == ("refused\n", "")
