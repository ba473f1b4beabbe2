"""How tags are spelt in a caption: taken apart and put together, underscores, brackets, kaomoji."""

import re

# One eye of a kaomoji such as ^_^, (o)_(o) or ||_||: signs, and at most one letter or digit among them.
_EYE = r"(?=[^\s_])[^\w\s]{0,3}[A-Za-z0-9]?[^\w\s]{0,3}"
_KAOMOJI = re.compile(f"{_EYE}_{_EYE}")
_BARE_BRACKET = re.compile(r"(?<!\\)[()]")
_ESCAPED_BRACKET = re.compile(r"\\([()])")


def split_tags(text: str, separator: str = ",") -> list[str]:
    """The tags of a line, each without blanks around it and with single ones inside; empty ones are left out.

    Blanks around `separator` do not matter. What stands in braces, as {red, dark red|blue}, is not taken apart.
    """
    mark = _mark(separator)
    pieces = text.split() if mark.isspace() else text.split(mark)
    if "{" in text and text.count("{") == text.count("}"):
        pieces = _whole_braces(pieces, mark)
    return [tag for piece in pieces if (tag := " ".join(piece.split()))]


def join_tags(tags: list[str], separator: str = ",") -> str:
    """The tags as one line, with a blank behind each separator."""
    mark = _mark(separator)
    return (mark if mark.isspace() else f"{mark} ").join(tags)


def is_kaomoji(tag: str) -> bool:
    """Whether a tag is a face drawn with signs around an underscore: ^_^, o_o, >_<, (o)_(o), 0_0."""
    return _KAOMOJI.fullmatch(tag) is not None


def with_spaces(tag: str) -> str:
    """The tag with blanks for underscores; kaomoji stay as they are."""
    return tag if is_kaomoji(tag) else " ".join(tag.replace("_", " ").split())


def escape_brackets(tag: str) -> str:
    r"""The tag with \( and \) for round brackets, which otherwise change weights; those escaped already stay."""
    return _BARE_BRACKET.sub(r"\\\g<0>", tag)


def unescape_brackets(tag: str) -> str:
    r"""The tag with plain brackets for \( and \)."""
    return _ESCAPED_BRACKET.sub(r"\1", tag)


def _mark(separator: str) -> str:
    return separator.strip() or separator


def _whole_braces(pieces: list[str], mark: str) -> list[str]:
    """The pieces, with those joined again between which a brace is open."""
    whole: list[str] = []
    open_braces = 0
    for piece in pieces:
        if open_braces > 0:
            whole[-1] += mark + piece
        else:
            whole.append(piece)
        open_braces += piece.count("{") - piece.count("}")
    return whole
