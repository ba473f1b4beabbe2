"""Pictures that say inside their file how they were made, so that a later run knows its own work."""

from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from library.errors import InputError
from library.files import write_atomically

FORMS = {"png": "PNG", "jpg": "JPEG"}
KEY = "easel"  # of the text in a PNG; a JPEG has one comment
MARK = "easel: "  # which a stamp begins with
COMPRESS_LEVEL = 4  # of 9; Pillow's own 6 takes twice the time and saves nothing on photographs


def save_stamped(image: Image.Image, path: Path, stamp: str, quality: int = 95) -> None:
    """Writes a picture, whole or not at all, with its stamp: a PNG, or a JPEG if the path ends in .jpg.

    Equal pictures and stamps give equal files. `quality` (1 to 100) is for JPEG, whose colours keep their full
    resolution.
    """
    text = MARK + stamp
    image = image.copy()
    image.info = {}  # Pillow would write the colour profile of the file that the picture came from
    if path.suffix == ".png":
        facts = PngInfo()
        facts.add_text(KEY, text)
        effort = {"compress_level": COMPRESS_LEVEL, "pnginfo": facts}
        write_atomically(path, lambda unfinished: image.save(unfinished, FORMS["png"], **effort))
        return
    options = {"quality": quality, "subsampling": 0, "comment": text.encode()}
    write_atomically(path, lambda unfinished: image.save(unfinished, FORMS["jpg"], **options))


def stamp_of(path: Path) -> str | None:
    """The stamp of a picture, or None where there is no such file.

    Raises InputError for a file without a stamp: somebody else made it, and it must not be overwritten.
    """
    if not path.exists():
        return None
    try:
        with Image.open(path, formats=tuple(FORMS.values())) as image:
            text = image.info.get(KEY) or image.info.get("comment") or ""
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        text = ""
    words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    if not words.startswith(MARK):
        raise InputError(f"{path} is there already and was not made by this program; move it or write elsewhere.")
    return words.removeprefix(MARK)


def is_current(path: Path, source: Path, stamp: str) -> bool:
    """Whether a picture is there, has this stamp, and is not older than what it was made of."""
    return stamp_of(path) == stamp and path.stat().st_mtime_ns >= source.stat().st_mtime_ns


def remove_stamped(path: Path) -> None:
    """Removes a picture that has a stamp; one of somebody else's stays."""
    try:
        is_own = stamp_of(path) is not None
    except InputError:
        return
    if is_own:
        path.unlink()
