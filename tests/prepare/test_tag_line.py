"""From probabilities to a tag line: what is taken, what it is called, in which order."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.errors import InputError
from library.prepare.tag_line import (
    CHARACTER,
    GENERAL,
    RATING,
    Tag,
    TagRules,
    best_rating,
    choose,
    mcut_threshold,
    parse_selected_tags,
    parse_tags_txt,
    read_names,
    read_replacements,
    tag_line,
)

COPYRIGHT = 3
TAGS = (
    Tag("general", RATING),
    Tag("explicit", RATING),
    Tag("1girl", GENERAL),
    Tag("long_hair", GENERAL),
    Tag("^_^", GENERAL),
    Tag("smile", GENERAL),
    Tag("saber_(fate)", CHARACTER),
    Tag("fate", COPYRIGHT),
)
FOUND = np.array([0.7, 0.2, 0.9, 0.5, 0.4, 0.1, 0.8, 0.35], np.float32)
FACES = "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"

names = st.text("abc_() ^", min_size=1, max_size=8).filter(lambda name: name.strip("_ "))
found_tags = st.lists(
    st.tuples(st.builds(Tag, names, st.sampled_from((GENERAL, CHARACTER, RATING, COPYRIGHT))), st.floats(0, 1)),
    min_size=1,
    max_size=12,
)


def line(found: Sequence[float] | np.ndarray = FOUND, **rules: object) -> list[str]:
    """The tag line of the example."""
    return tag_line(TAGS, np.asarray(found, np.float32), TagRules(**rules))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({}, "1girl long_hair ^_^ saber_(fate) fate"),
        ({"general_threshold": 0.45}, "1girl long_hair saber_(fate)"),
        ({"character_threshold": 0.81}, "1girl long_hair ^_^ fate"),
        ({"general_threshold": 0.0, "character_threshold": 1.0}, "1girl long_hair ^_^ smile fate"),
        ({"rating": "first"}, "general 1girl long_hair ^_^ saber_(fate) fate"),
        ({"rating": "last"}, "1girl long_hair ^_^ saber_(fate) fate general"),
        ({"sort_by_score": True}, "1girl saber_(fate) long_hair ^_^ fate"),
        ({"character_tags_first": True}, "saber_(fate) 1girl long_hair ^_^ fate"),
        ({"character_tags_first": True, "rating": "first"}, "general saber_(fate) 1girl long_hair ^_^ fate"),
        ({"always_first": ("fate", "long hair", "solo")}, "fate long_hair 1girl ^_^ saber_(fate)"),
        ({"undesired": frozenset({"long hair", "1girl"})}, "^_^ saber_(fate) fate"),
        ({"undesired": frozenset({"general"}), "rating": "first"}, "1girl long_hair ^_^ saber_(fate) fate"),
        ({"character_tag_expand": True}, "1girl long_hair ^_^ saber fate"),
        ({"character_tag_expand": True, "undesired": frozenset({"saber (fate)"})}, "1girl long_hair ^_^ fate"),
        ({"character_tag_expand": True, "undesired": frozenset({"saber"})}, "1girl long_hair ^_^ fate"),
        ({"replacements": {"1girl": "woman", "long hair": "hair"}}, "woman hair ^_^ saber_(fate) fate"),
        ({"replacements": {"saber (fate)": "lily"}, "character_tag_expand": True}, "1girl long_hair ^_^ lily fate"),
        ({"replacements": {"1girl": "fate"}}, "fate long_hair ^_^ saber_(fate)"),
        ({"replacements": {"1girl": "woman"}, "undesired": frozenset({"woman"})}, "long_hair ^_^ saber_(fate) fate"),
        ({"escape_brackets": True}, r"1girl long_hair ^_^ saber_\(fate\) fate"),
    ],
)
def test_each_rule(rules: dict[str, object], expected: str) -> None:
    assert line(**rules) == expected.split(" ")


def test_underscores_go_but_not_from_faces() -> None:
    assert line(remove_underscore=True) == ["1girl", "long hair", "^_^", "saber (fate)", "fate"]
    names = FACES.split(" ")
    faces = tag_line([Tag(name, GENERAL) for name in names], np.ones(len(names)), TagRules(remove_underscore=True))
    assert faces == names and len(faces) == 19
    # A replacement is written as the user has it.
    assert line(remove_underscore=True, replacements={"1girl": "a_woman"})[0] == "a_woman"


def test_only_the_last_brackets_hold_the_series() -> None:
    tags = [Tag("saber_(swimsuit)_(fate)", CHARACTER), Tag("cat_(animal)", GENERAL), Tag("(o)", CHARACTER)]
    expanded = tag_line(tags, np.ones(3), TagRules(character_tag_expand=True))
    assert expanded == ["saber_(swimsuit)", "fate", "cat_(animal)", "(o)"]


def test_a_model_without_ratings_gives_none() -> None:
    assert best_rating(TAGS, FOUND) == 0
    assert best_rating(TAGS[2:], FOUND[2:]) is None
    assert tag_line(TAGS[2:4], FOUND[2:4], TagRules(rating="first")) == ["1girl", "long_hair"]


def test_nothing_probable_is_an_empty_line() -> None:
    assert line(np.zeros(len(TAGS))) == []


@given(found=found_tags, rules=st.builds(TagRules, st.floats(0, 1), st.floats(0, 1), st.booleans()))
def test_every_tag_once_and_order_changes_nothing_else(found: list[tuple[Tag, float]], rules: TagRules) -> None:
    tags, probabilities = [tag for tag, _ in found], np.array([number for _, number in found])
    plain = tag_line(tags, probabilities, rules)
    assert len(plain) == len(set(plain))
    for order in ({"sort_by_score": True}, {"character_tags_first": True}, {"always_first": ("a", "b", "c")}):
        assert sorted(tag_line(tags, probabilities, replace(rules, **order))) == sorted(plain)  # type: ignore[arg-type]
    without = tag_line(tags, probabilities, replace(rules, undesired=frozenset(plain[:1])))
    assert set(without) <= set(plain) - set(plain[:1])


@given(found=found_tags, low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_higher_threshold_only_takes_away(found: list[tuple[Tag, float]], low: float, high: float) -> None:
    tags, probabilities = [tag for tag, _ in found], np.array([number for _, number in found])
    low, high = sorted((low, high))
    few, many = (choose(tags, probabilities, TagRules(number, number)) for number in (high, low))
    assert set(few) <= set(many)
    assert all(probabilities[number] >= low and tags[number].category != RATING for number in many)


def test_mcut_cuts_at_the_widest_gap() -> None:
    assert mcut_threshold(np.array([0.1, 0.9, 0.05, 0.7])) == pytest.approx(0.4)
    assert mcut_threshold(np.array([0.9])) == 1.0
    # General tags: 0.9, 0.5, 0.4, 0.35, 0.1, so between 0.9 and 0.5; the one character has no gap to others.
    assert line(mcut=True) == ["1girl"]
    # No character is in the picture, whatever the gap between them.
    tags = [Tag("cat", GENERAL), Tag("dog", GENERAL), Tag("saber", CHARACTER), Tag("rin", CHARACTER)]
    assert tag_line(tags, np.array([0.6, 0.1, 0.1, 0.001]), TagRules(mcut=True)) == ["cat"]
    assert tag_line(tags, np.array([0.6, 0.1, 0.3, 0.001]), TagRules(mcut=True)) == ["cat", "saber"]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_mcut_lies_in_the_widest_gap(numbers: list[float]) -> None:
    threshold, ordered = mcut_threshold(np.array(numbers)), sorted(numbers)
    below, above = (max(n for n in ordered if n <= threshold), min(n for n in ordered if n >= threshold))
    assert above - below == pytest.approx(max(b - a for a, b in zip(ordered, ordered[1:], strict=False)))


def test_lists_of_tags_are_read() -> None:
    assert read_names(" a tag, b_b ,, ") == ("a tag", "b_b")
    assert read_names(r"oh\,_my!,b") == ("oh,_my!", "b")
    assert read_names("") == ()
    assert read_replacements(r"a,b; c d , e_f ;") == {"a": "b", "c d": "e_f"}
    assert read_replacements(r"a\,b,c\;d") == {"a,b": "c;d"}


@pytest.mark.parametrize("text", ["a", "a,b,c", "a,b;c", "a,"])
def test_a_pair_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="an old tag, a comma and a new tag"):
        read_replacements(text)


def test_the_list_of_wd_taggers_is_read() -> None:
    text = 'tag_id,name,category,count\n1,general,9,5\n2,long_hair,0,4\n3,"say_""a,b""",0,1\n4,saber,4,2\n'
    assert parse_selected_tags(text) == [
        Tag("general", RATING),
        Tag("long_hair", GENERAL),
        Tag('say_"a,b"', GENERAL),
        Tag("saber", CHARACTER),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column category and name"),
        ("tag_id,name,count\n1,a,2\n", "no column category;"),
        ("tag_id,name,category\n1,a,0\n2,b,high\n", "line 3: the category is 'high'"),
        ("tag_id,name,category\n1,a\n", "line 2"),
    ],
)
def test_a_list_that_is_none_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_selected_tags(text)


def test_the_list_of_deepdanbooru_is_read() -> None:
    tags = parse_tags_txt("1girl\nsaber\nrating:safe\nrating:explicit\n", characters="saber\n")
    assert tags == [Tag("1girl", 0), Tag("saber", 4), Tag("rating:safe", 9), Tag("rating:explicit", 9)]
