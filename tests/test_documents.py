"""Documents of strangers: what trips a reader is a ValueError with a reason."""

import pytest

from library.documents import DEEPEST, is_whole, parse_json, parse_toml, read_json


@pytest.mark.parametrize("levels", [DEEPEST + 1, 100, 5000, 100_000])
def test_depth_has_an_end(levels: int) -> None:
    with pytest.raises(ValueError, match="deeper in each other"):
        parse_json("[" * levels + "]" * levels)
    with pytest.raises(ValueError, match="deeper in each other"):
        parse_toml(f"a = {'[' * levels}{']' * levels}")
    with pytest.raises(ValueError, match="deeper in each other"):
        parse_toml(f"{'.'.join('a' * min(levels, 5000))} = 1")


def test_what_people_write_is_read() -> None:
    deep = "[" * (DEEPEST - 1) + "1" + "]" * (DEEPEST - 1)
    assert parse_json(f'{{"a": {deep}}}')["a"]
    assert parse_toml("[a.b.c]\nd = [[1, 2], [3]]") == {"a": {"b": {"c": {"d": [[1, 2], [3]]}}}}
    assert parse_json('{"smile": "\\ud83d\\ude00"}') == {"smile": "\U0001f600"}


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\ud800": 1}', '[{"a": ["b", "c\\udfff"]}]'])
def test_halves_of_characters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cut in two"):
        parse_json(text)
    assert read_json(text) == {}


def test_a_table_or_nothing() -> None:
    assert read_json('{"a": 1}') == {"a": 1}
    assert all(read_json(text) == {} for text in (None, "", "[1]", "{", "null"))


def test_whole_texts() -> None:
    assert is_whole("Grüße") and not is_whole("\udcff")
