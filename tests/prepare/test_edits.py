"""Each edit of tags by itself, what holds for any tags, and the order in which edits are made."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.prepare import edits
from library.prepare.edits import ORDER, Edits, Tags, common_tags, early_steps, edit_tags, edit_text, late_steps

WORDS = st.sampled_from(["a", "b", "c", "long hair", "very long hair", "hair", "B"])
TAGS = st.lists(WORDS, max_size=8)
KEPT = st.integers(0, 4)


def edited(text: str, asked: Edits, separator: str = ",", counts: dict[str, int] | None = None) -> str:
    """One caption after all edits of its tags."""
    early = edit_tags(text, early_steps(asked, separator), separator)
    common = common_tags(asked, counts or {}, 10)
    return edit_tags(early, late_steps(asked, counts or {}, common), separator)


@given(tags=TAGS)
def test_deduplicating_twice_is_as_once(tags: Tags) -> None:
    once = edits.deduplicate(tags)
    assert edits.deduplicate(once) == once
    assert len(once) == len(set(tags)) and set(once) == set(tags)


@given(tags=TAGS, kept=KEPT, counts=st.dictionaries(WORDS, st.integers(1, 9)))
def test_sorting_keeps_all_tags_and_the_first_in_place(tags: Tags, kept: int, counts: dict[str, int]) -> None:
    for result in (edits.sort_alphabetically(tags, kept), edits.sort_by_frequency(tags, counts, kept)):
        assert Counter(result) == Counter(tags)
        assert result[:kept] == tags[:kept]


def test_sorting() -> None:
    tags = ["sks", "b", "C", "a"]
    assert edits.sort_alphabetically(tags) == ["a", "b", "C", "sks"]
    assert edits.sort_alphabetically(tags, 1) == ["sks", "a", "b", "C"]
    assert edits.sort_by_frequency(tags, {"C": 3, "a": 1, "b": 1}, 1) == ["sks", "C", "a", "b"]


@given(tags=TAGS, new=st.lists(WORDS, min_size=1, max_size=3), position=st.integers(1, 9))
def test_adding_puts_tags_where_asked_and_twice_is_as_once(tags: Tags, new: Tags, position: int) -> None:
    unique = edits.deduplicate(new)
    for add, place in ((edits.add_front, 0), (edits.add_end, None), (edits.add_at, position - 1)):
        arguments = (new, position) if add is edits.add_at else (new,)
        result = add(tags, *arguments)
        rest = [tag for tag in tags if tag not in new]
        start = len(rest) if place is None else min(place, len(rest))
        assert result == [*rest[:start], *unique, *rest[start:]]
        assert add(result, *arguments) == result


@given(tags=TAGS, kept=KEPT)
def test_pruning_of_parts_leaves_none(tags: Tags, kept: int) -> None:
    result = edits.prune_overlapping(tags, kept)
    assert result[: min(kept, len(tags))] == tags[:kept]
    assert edits.prune_overlapping(result, kept) == result
    if "very long hair" in tags:
        assert not {"hair", "long hair"} & set(result[kept:])


@pytest.mark.parametrize(
    ("tags", "left"),
    [
        (["long hair", "very long hair"], ["very long hair"]),
        (["long_hair", "Very Long Hair"], ["Very Long Hair"]),
        (["long hair", "hair long"], ["long hair", "hair long"]),
        (["very hair", "very long hair"], ["very hair", "very long hair"]),
        (["air", "long hair"], ["air", "long hair"]),
        (["long hair", "long hair"], ["long hair", "long hair"]),
        (["sks dog", "dog"], ["sks dog"]),
    ],
)
def test_what_overlaps(tags: Tags, left: Tags) -> None:
    assert edits.prune_overlapping(tags) == left
    assert edits.prune_overlapping(tags, trigger=tags) == tags


def test_common_tags_are_those_in_at_least_that_part() -> None:
    counts = {"sks": 10, "dog": 9, "red": 7, "sky": 6}
    assert common_tags(Edits(prune_common=0.7), counts, 10) == {"sks", "dog", "red"}
    assert common_tags(Edits(prune_common=0.7, trigger=["sks"], add_end=["red"]), counts, 10) == {"dog"}
    assert common_tags(Edits(), counts, 10) == set()


def test_common_tags_go_from_behind_the_first() -> None:
    assert edits.prune_common(["dog", "red", "dog"], {"dog"}, 1) == ["dog", "red"]


@pytest.mark.parametrize(
    ("tags", "new", "result"),
    [
        (["a", "b"], {"a": ["b"], "b": ["a"]}, ["b", "a"]),
        (["red dress", "dress"], {"red dress": ["dress"]}, ["dress"]),
        (["a", "b"], {"a": ["c"], "b": ["c"]}, ["c"]),
        (["a", "b"], {"a": ["x", "y"]}, ["x", "y", "b"]),
        (["a", "b"], {"a": []}, ["b"]),
        (["b", "b"], {"a": ["c"]}, ["b", "b"]),
    ],
)
def test_replacing(tags: Tags, new: dict[str, Tags], result: Tags) -> None:
    assert edits.replace(tags, new) == result


def test_replacing_by_patterns_one_after_the_other() -> None:
    rules = [(re.compile("^red (.+)"), r"\1, scarlet"), (re.compile("scarlet"), "crimson")]
    assert edits.replace_regex(["red dress", "a red"], rules) == ["dress", "crimson", "a red"]
    assert edits.replace_regex(["red dress"], [(re.compile(".*"), "")]) == []


def test_removing_and_keeping() -> None:
    tags = ["a", "long hair", "b", "a"]
    assert edits.remove(tags, {"a"}) == ["long hair", "b"]
    assert edits.remove_regex(tags, [re.compile("^hair"), re.compile("g h")]) == ["a", "b", "a"]
    assert edits.keep_only(tags, {"a", "b"}) == ["a", "b", "a"]


def test_whole_captions() -> None:
    assert edit_text(None, Edits(add_front=["a"])) is None
    assert edit_text(None, Edits(set_all="x")) == edit_text("y", Edits(set_all=" x ")) == "x"
    assert edit_text(None, Edits(set_empty="x")) == edit_text("", Edits(set_empty="x")) == "x"
    assert edit_text("y", Edits(set_empty="x")) == "y"
    rules = [(re.compile(r"^A photo of (\w+),"), r"\1,")]
    assert edit_text("A photo of sks, which is red.", Edits(text_regex=rules)) == "sks, which is red."


def test_every_line_is_a_caption_of_its_own() -> None:
    assert edited("b, a\n\nc ,, a\n", Edits(sort="alphabetical")) == "a, b\na, c"
    assert edited("a\nb", Edits(remove=["a"])) == "b"
    assert edited("a", Edits(remove=["a"])) == ""
    assert edited("", Edits(add_front=["a"])) == "a"


def test_without_edits_of_tags_nothing_is_tidied() -> None:
    assert edited("A dog ,  running", Edits()) == "A dog ,  running"
    assert edited("A dog ,  running", Edits(clean=True)) == "A dog, running"


def test_another_separator() -> None:
    assert edited("b; a, c", Edits(sort="alphabetical"), ";") == "a, c; b"
    assert edited("b a", Edits(sort="alphabetical"), " ") == "a b"


def test_the_order_of_edits() -> None:
    """Each edit needs what the one before it in ORDER left; together they give what each alone would not."""
    asked = Edits(
        underscores_to_spaces=True,
        replace={"old tag": ["mid tag"]},
        replace_regex=[(re.compile("mid"), "late")],
        remove=["late"],
        deduplicate=True,
        prune_overlapping=True,
        prune_common=0.9,
        sort="alphabetical",
        keep_first=1,
        add_front=["zz (x)"],
        add_end=["aa"],
        add=["mm"],
        position=2,
        escape_brackets=True,
    )
    text = "top, old_tag, late, common, b, a, b, tag, aa"
    assert edited(text, asked, counts={"common": 9}) == r"zz \(x\), mm, top, a, b, late tag, aa"


def test_the_order_names_every_edit() -> None:
    names = [step.partition(" ")[0] for step in re.split("[:;,] ", ORDER.partition(": ")[2].rstrip("."))]
    helpers = {"position", "keep_first", "trigger", "clean"}
    fields = {name.replace("set_all", "set") for name in Edits.__dataclass_fields__}
    assert set(names) - {"now"} == fields - helpers
