"""The caption files that lie beside pictures: read, written whole, and put together with what is there already."""

from pathlib import Path

from library.data.folders import is_picture
from library.errors import InputError
from library.files import write_atomically

MODES = ("skip", "overwrite", "append", "prepend")


def check_extension(extension: str) -> str:
    """The ending of caption files with its dot; raises InputError where it cannot be one."""
    ending = extension if extension.startswith(".") else f".{extension}"
    if len(ending) < 2 or any(mark in ending for mark in "/\\\0") or is_picture(Path(f"a{ending}")):
        raise InputError(f"caption_extension is '{extension}'; give an ending such as .txt.")
    return ending


def caption_path(picture: Path, extension: str = ".txt") -> Path:
    """The file that holds a picture's caption."""
    return picture.with_suffix(extension)


def read_sidecar(path: Path) -> str | None:
    """The text of a caption file without blanks around it, or None where there is no file.

    Raises InputError where it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise InputError(f"the caption {path} is not UTF-8 text; save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"the caption {path} cannot be read: {error.strerror}.") from error


def write_sidecar(path: Path, text: str) -> None:
    """Writes a caption, whole or not at all, with a line's end."""
    content = f"{text}\n".encode()
    write_atomically(path, lambda unfinished: unfinished.write_bytes(content))


def keeps(path: Path, mode: str) -> bool:
    """Whether this mode leaves a picture alone because it has a caption with words."""
    return mode == "skip" and bool(read_sidecar(path))


def merged(old: str | None, new: str, mode: str, separator: str = ", ") -> str:
    """The caption that a mode makes of the one that is there and a new one.

    Parts that are there already are not repeated; `separator` stands between parts.
    """
    if not old or mode == "overwrite":
        return new
    if mode == "skip":
        return old
    parts = {"append": (old, new), "prepend": (new, old)}
    if mode not in parts:
        raise ValueError(f"unknown mode {mode!r}; modes are {', '.join(MODES)}")
    mark = separator.strip() or separator
    words = [word.strip() for text in parts[mode] for word in text.split(mark)]
    return separator.join(dict.fromkeys(word for word in words if word))
