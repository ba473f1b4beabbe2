"""Which captions are taken."""

import re

import pytest

from library.prepare.selection import Selection

TEXT = "1girl, long hair\nred dress"


@pytest.mark.parametrize(
    ("selection", "text", "is_taken"),
    [
        (Selection(), TEXT, True),
        (Selection(), None, True),
        (Selection(all_of=["1girl", "red dress"]), TEXT, True),
        (Selection(all_of=["1girl", "hair"]), TEXT, False),
        (Selection(any_of=["hair", "red dress"]), TEXT, True),
        (Selection(any_of=["hair", "dress"]), TEXT, False),
        (Selection(none_of=["hair"]), TEXT, True),
        (Selection(none_of=["hair", "1girl"]), TEXT, False),
        (Selection(none_of=["hair"]), None, True),
        (Selection(pattern=re.compile("long h")), TEXT, True),
        (Selection(pattern=re.compile("^hair")), TEXT, False),
        (Selection(pattern=re.compile("a")), None, False),
        (Selection(only_empty=True), TEXT, False),
        (Selection(only_empty=True), "", True),
        (Selection(only_empty=True), None, True),
        (Selection(all_of=["1girl"], none_of=["red dress"]), TEXT, False),
    ],
)
def test_what_is_taken(selection: Selection, text: str | None, is_taken: bool) -> None:
    assert selection.takes(text) is is_taken


def test_tags_are_parted_by_the_separator() -> None:
    assert Selection(all_of=["a, b"]).takes("a, b; c", ";")
