"""Counting tags and pairs, and how the counts are shown."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import InputError
from library.prepare.tag_table import (
    count_beside,
    count_pairs,
    count_tags,
    ranked,
    table_json,
    table_lines,
    tags_of,
)

CAPTIONS = [["red", "dog"], ["dog"], ["dog", "red", "sky"], []]


@given(captions=st.lists(st.lists(st.sampled_from("abcde"), max_size=6), max_size=8))
def test_counts_are_numbers_of_captions(captions: list[list[str]]) -> None:
    tags, pairs = count_tags(captions), count_pairs(captions)
    for tag in "abcde":
        assert tags[tag] == sum(tag in caption for caption in captions)
    for one, other in combinations("abcde", 2):
        assert pairs[one, other] == sum({one, other} <= set(caption) for caption in captions)
        assert pairs[other, one] == 0
        if tags[one]:
            assert count_beside(captions, one)[other] == pairs[one, other]


def test_tags_are_those_of_all_lines() -> None:
    assert tags_of("a, b\nb ,c") == {"a", "b", "c"}
    assert tags_of("a; b, c", ";") == {"a", "b, c"}
    assert tags_of(None) == tags_of("") == set()


def test_a_tag_that_is_nowhere_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no caption has the tag 'dogg'; did you mean 'dog'?"):
        count_beside(CAPTIONS, "dogg")
    with pytest.raises(InputError, match=r"the tag 'zebra'\."):
        count_beside(CAPTIONS, "zebra")


def test_rows_are_ranked() -> None:
    assert ranked(count_tags(CAPTIONS)) == [("dog", 3), ("red", 2), ("sky", 1)]
    assert ranked(count_pairs(CAPTIONS), 2) == [(("dog", "red"), 2), (("dog", "sky"), 1)]


def test_the_table_as_text() -> None:
    assert table_lines("tag", ranked(count_tags(CAPTIONS)), 4) == [
        "count    part  tag",
        "    3   75.0%  dog",
        "    2   50.0%  red",
        "    1   25.0%  sky",
    ]
    assert table_lines("pair", [(("a", "b"), 1_234_567)], 2_469_134)[1] == "1234567   50.0%  a + b"
    assert table_lines("tag", [], 0) == ["count    part  tag"]


def test_the_table_as_json() -> None:
    assert table_json("tag", [("dog", 2)], 3) == [{"tag": "dog", "count": 2, "part": 0.6667}]
