"""Wildcards: choices, escapes and choices inside choices; whatever a text holds, it comes through."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.wildcards import Choice, choose, longest, parse

SEEDS = st.integers(0, 2**63 - 1)
TEXTS = st.text("ab{}|$2, ", max_size=30)


def shown(text: str, seeds: int = 80) -> set[str]:
    """Everything that a text can become."""
    return {choose(text, Random(seed), ", ") for seed in range(seeds)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The two examples of sd-scripts' documentation.
        ("1girl, {simple|white} background", {"1girl, simple background", "1girl, white background"}),
        ("1girl, vocaloid, {{retro style}}", {"1girl, vocaloid, {retro style}"}),
        ("{a|b} {c|d}", {"a c", "a d", "b c", "b d"}),
        ("{one}", {"one"}),
        ("{a|}b", {"ab", "b"}),
        ("{a b|c, d}", {"a b", "c, d"}),
    ],
)
def test_choices(text: str, expected: set[str]) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{a|{b|c}}", {"a", "b", "c"}),
        ("{{a}|b", {"{a}|b"}),
        ("{a|{b|{c|d}}} e", {"a e", "b e", "c e", "d e"}),
        ("{x {a|b}|y}", {"x a", "x b", "y"}),
        ("{a|{{x}}}", {"a", "{x}"}),
        ("{a|{b|{{c}}}}", {"a", "b", "{c}"}),
    ],
)
def test_choices_inside_choices(text: str, expected: set[str]) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{2$$a|b|c}", {"a, b", "a, c", "b, a", "b, c", "c, a", "c, b"}),
        ("{1$$a|b}", {"a", "b"}),
        ("{9$$a|b}", {"a, b", "b, a"}),
        ("{0$$a|b}", {""}),
        ("{2$$a|{b|c}}", {"a, b", "a, c", "b, a", "c, a"}),
        ("5$$", {"5$$"}),
    ],
)
def test_several_of_one_choice(text: str, expected: set[str]) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize("text", ["{a|b", "a}b|c", "{}", "a|b", "{x{a|b", "}{", "|", ""])
def test_braces_without_their_half_are_plain(text: str) -> None:
    assert shown(text, 5) == {text}


def test_every_option_comes_equally_often() -> None:
    counts = [choose("{a|b|c|d}", Random(seed), ", ") for seed in range(4000)]
    assert all(900 < counts.count(option) < 1100 for option in "abcd")


@given(TEXTS, SEEDS)
def test_the_same_seed_the_same_choice_and_never_a_failure(text: str, seed: int) -> None:
    one = choose(text, Random(seed), ", ")
    assert one == choose(text, Random(seed), ", ")
    assert len(one) <= len(longest(text, ", "))


@given(st.text(st.characters(blacklist_characters="{}")), SEEDS)
def test_a_text_without_braces_stays_as_it_is(text: str, seed: int) -> None:
    assert choose(text, Random(seed), ", ") == longest(text, ", ") == text


@given(st.lists(st.text("ab ", max_size=4), min_size=1, max_size=5), SEEDS)
def test_what_is_chosen_is_one_of_the_options(options: list[str], seed: int) -> None:
    text = "{" + "|".join(options) + "}"
    assert choose(text, Random(seed), ", ") in options or text == "{}"
    assert longest(text, ", ") == max(options, key=len) or text == "{}"


def test_parts() -> None:
    assert parse("a {b|c}") == ["a ", Choice([["b"], ["c"]]), ""]
    assert parse("{3$$b|c}")[1] == Choice([["b"], ["c"]], 3)


def test_braces_have_an_end() -> None:
    """Deeper ones are plain, and none of it takes long."""
    deep = "{x" * 5000 + "a|b" + "}" * 5000
    assert choose(deep, Random(1), ", ") and len(longest(deep, ", ")) > 5000
    assert choose("{x" * 40 + "a|b" + "}" * 40, Random(1), ", ") in ("x" * 40 + "a", "x" * 39 + "b")
    assert choose("{99999999$$a|b}", Random(1), ", ") in ("99999999$$a", "b")
