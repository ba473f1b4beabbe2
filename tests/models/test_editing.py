"""Prompt editing by the cases that AUTOMATIC1111's documentation names, by hand, and on any text."""

import re
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.models.editing import at_steps, parse_edits


def schedule(text: str, steps: int = 10) -> list[tuple[int, str]]:
    """The texts with the last step of each, as the web UI writes schedules."""
    found, last = [], 0
    for said, group in groupby(at_steps(text, steps)):
        last += len(list(group))
        found.append((last, said))
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("test", [(10, "test")]),
        ("a [b:3]", [(3, "a "), (10, "a b")]),
        ("a [b: 3]", [(3, "a "), (10, "a b")]),
        ("a [b:3 ] c", [(3, "a  c"), (10, "a b c")]),
        ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
        ("a [b::0.3] c", [(3, "a b c"), (10, "a  c")]),
        ("[x:y:0.25]", [(2, "x"), (10, "y")]),
        ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
        ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
        ("([a:b:4]:1.3) c", [(4, "(a:1.3) c"), (10, "(b:1.3) c")]),
        ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
        ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
        ("[[a:b:2]:c:5]", [(2, "a"), (5, "b"), (10, "c")]),
        ("a [unbalanced", [(10, "a [unbalanced")]),
        ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
        ("[a:b:1.0]", [(10, "a")]),
        ("[a:b:1]", [(1, "a"), (10, "b")]),
        ("[a:b:0]", [(10, "b")]),
        ("[a:b:99]", [(10, "a")]),
        ("[a:b:-1]", [(10, "b")]),
        ("[:3]", [(10, "")]),
        (r"\[a:b:3\] [c\:d:e:2]", [(2, r"\[a:b:3\] c\:d"), (10, r"\[a:b:3\] e")]),
        ("[word] (word) [a:b] [a:b:c:3] [a|b:3] [a:b:x]", [(10, "[word] (word) [a:b] [a:b:c:3] [a|b:3] [a:b:x]")]),
        ("16:9 a|b", [(10, "16:9 a|b")]),
    ],
)
def test_words_that_change(text: str, found: list[tuple[int, str]]) -> None:
    assert schedule(text) == found


def test_words_that_take_turns() -> None:
    assert at_steps("a [b|c] d", 5) == ["a b d", "a c d", "a b d", "a c d", "a b d"]
    assert at_steps("[fe|]male", 3) == ["female", "male", "female"]
    assert at_steps("[a|(b:1.1)|[c:d:2]]", 6) == ["a", "(b:1.1)", "d", "a", "(b:1.1)", "d"]
    assert at_steps("[[a|b]:c:3]", 5) == ["a", "b", "a", "c", "c"]


def test_the_example_of_the_documentation() -> None:
    text = (
        "fantasy landscape with a [mountain:lake:0.25] and [an oak:a christmas tree:0.75][ in foreground::0.6]"
        "[ in background:0.25] [shoddy:masterful:0.5]"
    )
    land, tree = "fantasy landscape with a ", "a christmas tree"
    assert schedule(text, 100) == [
        (25, land + "mountain and an oak in foreground shoddy"),
        (50, land + "lake and an oak in foreground in background shoddy"),
        (60, land + "lake and an oak in foreground in background masterful"),
        (75, land + "lake and an oak in background masterful"),
        (100, f"{land}lake and {tree} in background masterful"),
    ]


pieces = st.sampled_from([*"[]()|:\\", "a", "b ", "0.5", "3", ":0.5]", "[a|", "é", "\n"])


@given(st.lists(pieces, max_size=40).map("".join), st.integers(1, 7))
def test_any_text_says_something_at_every_step(text: str, steps: int) -> None:
    """No text is refused; each said text is made of the written one's characters, in their order."""
    said = at_steps(text, steps)
    assert len(said) == steps
    for each in said:
        rest = iter(text)
        assert all(character in rest for character in each)
    if not re.search(r"\[.*[:|].*\]", text, re.DOTALL):
        assert said == [text] * steps
        assert parse_edits(text) == (text,)


@given(st.text(alphabet="ab(): |", max_size=20), st.integers(1, 9))
def test_a_change_is_what_it_is_alone(word: str, steps: int) -> None:
    """Around a plain change, other words stay as they are."""
    text = f"{word} [x:y:0.5]"
    half = int(0.5 * steps)
    assert at_steps(text, steps) == [f"{word} x"] * half + [f"{word} y"] * (steps - half)


def test_many_brackets_are_read() -> None:
    deep = "[" * 5000 + "a:b:3" + "]" * 5000
    assert len(at_steps(deep, 4)) == 4
    nested = "a"
    for _ in range(45):
        nested = f"[{nested}:b:3]"
    assert schedule(nested, 9)[0] == (3, "a")
