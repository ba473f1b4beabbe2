"""From what a person wrote, in TOML or on the command line, to the value of a setting."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from library.documents import is_whole
from library.files import expanded
from library.lookup import find_name, nearest
from library.settings.rules import Rule

TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
NO_LIMITS = Rule("")
LARGEST = 2**63 - 1


def is_unset(rule: Rule, raw: Any) -> bool:
    """Whether `raw` means the same as leaving the setting out: empty, or a 0 where a 0 makes no sense."""
    if raw is None or raw == "":
        return True
    return rule.zero_is_unset and not isinstance(raw, bool) and _number(raw) == 0


def convert(name: str, hint: Any, rule: Rule, raw: Any) -> Any:
    """The value of the setting `name`, of the type `hint`, that `raw` stands for.

    Raises ValueError with a sentence about what is allowed.
    """
    value = _reader_of(hint)(name, raw)
    if rule.choices:
        value = _choose(name, rule, value)
    _check_range(name, rule, value)
    return value


def shown(value: Any) -> str:
    """A value as a person would write it in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(shown(part) for part in value) + "]"
    return f"'{value}'" if isinstance(value, (str, Path)) else str(value)


def listed(words: tuple[Any, ...]) -> str:
    """Words as an enumeration: a, b or c."""
    *front, last = [str(word) for word in words]
    return f"{', '.join(front)} or {last}" if front else last


def _reader_of(hint: Any) -> Callable[[str, Any], Any]:
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    if get_origin(hint) not in (Union, UnionType):
        kinds = [hint]
    if kinds == [int, float]:
        return _read_count_or_part
    return READERS[kinds[0]]


def _number(raw: Any) -> float | None:
    """`raw` as a finite number, or None if it is none."""
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        return None
    try:
        number = float(raw)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _read_bool(name: str, raw: Any) -> bool:
    word = str(raw).lower() if isinstance(raw, (bool, int, str)) else ""
    if word not in TRUE + FALSE:
        raise ValueError(f"{name} must be true or false, not {shown(raw)}.")
    return word in TRUE


def _read_int(name: str, raw: Any) -> int:
    number = _number(raw)
    if number is None or number != int(number):
        raise ValueError(f"{name} must be a whole number, not {shown(raw)}.")
    # Beyond 2**53 a float no longer holds every whole number, so digits are read as such.
    value = int(raw) if str(raw).lstrip("+-").isdecimal() else int(number)
    if abs(value) > LARGEST:
        raise ValueError(f"{name} must be a whole number below 2^63, not {shown(raw)}.")
    return value


def _read_float(name: str, raw: Any) -> float:
    number = _number(raw[0] if isinstance(raw, list) and len(raw) == 1 else raw)
    if number is None:
        raise ValueError(f"{name} must be a number, not {shown(raw)}.")
    return number


def _read_count_or_part(name: str, raw: Any) -> int | float:
    number = _number(raw)
    if number is None or (number > 1 and number != int(number)):
        raise ValueError(f"{name} must be a whole number of steps, or a part of the run below 1, not {shown(raw)}.")
    return int(number) if number == int(number) else number


def _read_text(name: str, raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"{name} must be text, not {shown(raw)}; put it in quotes.")
    _check_characters(name, raw)
    return raw


def _check_characters(name: str, text: str) -> None:
    """Names of files with other characters could not be written into any of the files that tell of the run."""
    if not is_whole(text):
        raise ValueError(f"{name} must be UTF-8 text, not {text!r}; rename what it names.")
    if "\0" in text:
        raise ValueError(f"{name} must not hold a NUL character, as {text!r} does.")


def _read_path(name: str, raw: Any) -> Path:
    return expanded(_read_text(name, raw))


def _read_texts(name: str, raw: Any) -> tuple[str, ...]:
    words = [raw] if isinstance(raw, str) else raw
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{name} must be a list of texts, not {shown(raw)}.")
    for word in words:
        _check_characters(name, word)
    return tuple(words)


def _read_size(name: str, raw: Any) -> tuple[int, int]:
    """(width, height) in pixels from 512, "512", "512,768" or [512, 768]."""
    parts = raw.split(",") if isinstance(raw, str) else raw
    if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], str):
        parts = parts[0].split(",")
    numbers = [_number(part) for part in (parts if isinstance(parts, list) else [parts])]
    sides = [int(number) for number in numbers if number is not None and number == int(number) and number > 0]
    if len(sides) != len(numbers) or len(sides) not in (1, 2):
        raise ValueError(
            f"{name} must be one number of pixels or width,height, such as 512 or 512,768, not {shown(raw)}."
        )
    for side in sides:
        if side % 64:
            close = max(64, round(side / 64) * 64)
            raise ValueError(f"{name} must be made of multiples of 64, not {side}; {close} is the nearest.")
    return sides[0], sides[-1]


def _read_span(name: str, raw: Any) -> tuple[float, float]:
    """Two numbers above 0, the smaller one first, from "1,2.5", [1, 2.5] or ["1", "2.5"]."""
    parts = raw.split(",") if isinstance(raw, str) else raw
    numbers = [_number(part) for part in parts] if isinstance(parts, list) else []
    low, high = numbers if len(numbers) == 2 else (None, None)
    if low is None or high is None or not 0 < low <= high:
        raise ValueError(f"{name} must be two numbers above 0, the smaller one first, such as 1.5,4, not {shown(raw)}.")
    return low, high


READERS: dict[Any, Callable[[str, Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: _read_text,
    Path: _read_path,
    tuple[str, ...]: _read_texts,
    tuple[int, int]: _read_size,
    tuple[float, float]: _read_span,
}


def _choose(name: str, rule: Rule, value: Any) -> Any:
    if not isinstance(value, str):
        if value in rule.choices or str(value) in rule.aliases:
            return rule.aliases.get(str(value), value)
        raise ValueError(f"{name} must be {listed(rule.choices)}, not {value}.")
    refused = find_name(value, rule.refusals)
    if refused:
        raise ValueError(f"{name} cannot be '{refused}': {rule.refusals[refused]}.")
    spelling = find_name(value, (*rule.choices, *rule.aliases))
    if spelling is not None:
        return rule.aliases.get(spelling, spelling)
    if rule.dotted and re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", value):
        return value
    meant = nearest(value, rule.choices)
    hint = f"; did you mean '{meant}'?" if meant else "."
    raise ValueError(f"{name} must be {listed(rule.choices)}, not '{value}'{hint}")


def _check_range(name: str, rule: Rule, value: Any) -> None:
    low, high = rule.low, rule.high
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"{name} must be between {low} and {high}, not {value}.")
    if low is not None and value < low:
        raise ValueError(f"{name} must be at least {low}, not {value}.")
