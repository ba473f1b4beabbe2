"""How tags are spelt: taken apart and put together without loss, faces left alone, brackets there and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.prepare.tags import escape_brackets, is_kaomoji, join_tags, split_tags, unescape_brackets, with_spaces

LINES = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=40)
SEPARATORS = st.sampled_from([",", ";", " | ", " "])

# The faces among the tags of WD14 taggers.
FACES = ["0_0", "(o)_(o)", "+_+", "+_-", "._.", "<o>_<o>", "<|>_<|>", "=_=", ">_<", "3_3", "6_9", ">_o", "@_@"]
FACES += ["^_^", "o_o", "u_u", "x_x", "|_|", "||_||"]


@given(line=LINES, separator=SEPARATORS)
def test_what_was_taken_apart_stays_so(line: str, separator: str) -> None:
    tags = split_tags(line, separator)
    assert split_tags(join_tags(tags, separator), separator) == tags
    assert all(tag and tag == " ".join(tag.split()) for tag in tags)


@pytest.mark.parametrize(
    ("line", "separator", "tags"),
    [
        (" a ,, b  c,a,", ",", ["a", "b c", "a"]),
        ("a,b , c", ", ", ["a", "b", "c"]),
        ("a b  c", " ", ["a", "b", "c"]),
        ("a, b; c", ";", ["a, b", "c"]),
        ("", ",", []),
        ("{red, dark red|blue} dress, sky", ",", ["{red, dark red|blue} dress", "sky"]),
        ("{a, {b, c}|d}, e", ",", ["{a, {b, c}|d}", "e"]),
        (":{, sky", ",", [":{", "sky"]),
    ],
)
def test_taking_apart(line: str, separator: str, tags: list[str]) -> None:
    assert split_tags(line, separator) == tags


def test_putting_together() -> None:
    assert join_tags(["a", "b"]) == join_tags(["a", "b"], ", ") == "a, b"
    assert join_tags(["a", "b"], " | ") == "a| b"
    assert join_tags(["a", "b"], " ") == "a b"


@pytest.mark.parametrize("face", [*FACES, ";_;", r"\(o\)_\(o\)"])
def test_faces_keep_their_underscore(face: str) -> None:
    assert is_kaomoji(face)
    assert with_spaces(face) == face


@pytest.mark.parametrize(
    ("tag", "spaced"),
    [("long_hair", "long hair"), ("saber_(fate)", "saber (fate)"), ("r_18", "r 18"), ("_a__b_", "a b"), ("_", "")],
)
def test_other_tags_do_not(tag: str, spaced: str) -> None:
    assert with_spaces(tag) == spaced


def test_brackets_are_escaped_once() -> None:
    assert escape_brackets("saber (fate)") == r"saber \(fate\)"
    assert escape_brackets(r"saber \(fate\)") == r"saber \(fate\)"


@given(tag=st.text("ab()_ ", max_size=12))
def test_brackets_come_back(tag: str) -> None:
    assert unescape_brackets(escape_brackets(tag)) == tag
    assert escape_brackets(escape_brackets(tag)) == escape_brackets(tag)
