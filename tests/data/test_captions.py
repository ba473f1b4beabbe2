"""Captions: found beside the picture, read as UTF-8, varied as a function of the seed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.captions import caption_variant, is_constant, read_caption, whole_captions, without_chance
from library.data.folders import Subset
from library.errors import InputError

PLAIN = Subset(image_dir=Path("folder"))
TAGS = st.lists(st.text("abc ", min_size=1).map(str.strip).filter(bool), min_size=1, max_size=8)
SEEDS = st.integers(0, 2**63 - 1)


@pytest.mark.parametrize("extension", [".txt", "txt"])
@pytest.mark.parametrize(
    "content",
    ["a dög, red".encode(), b"\xef\xbb\xbf" + "a dög, red".encode(), "\r\n a dög, red \r\n".encode()],
    ids=["plain", "byte-order mark", "windows"],
)
def test_a_caption_is_read(tmp_path: Path, extension: str, content: bytes) -> None:
    (tmp_path / "a.b.txt").write_bytes(content)
    assert read_caption(tmp_path / "a.b.png", extension) == ["a dög, red"]


def test_dot_caption_is_the_second_choice(tmp_path: Path) -> None:
    (tmp_path / "a.caption").write_text("second")
    assert read_caption(tmp_path / "a.png", ".txt") == ["second"]
    (tmp_path / "a.txt").write_text("first\nsecond line\n")
    assert read_caption(tmp_path / "a.png", ".txt") == ["first", "second line"]


def test_no_caption_and_a_blank_one_are_the_same(tmp_path: Path) -> None:
    assert read_caption(tmp_path / "a.png", ".txt") == []
    (tmp_path / "a.txt").write_text("\n  \n")
    assert read_caption(tmp_path / "a.png", ".txt") == []


def test_other_encodings_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("größe".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.txt is not UTF-8"):
        read_caption(tmp_path / "a.png", ".txt")


@given(st.text(), SEEDS, st.integers(0, 5))
def test_without_options_the_caption_stays_as_it_is(caption: str, seed: int, epoch: int) -> None:
    assert caption_variant(caption, PLAIN, seed, epoch) == caption


@given(TAGS, SEEDS, st.integers(0, 8))
def test_shuffling_keeps_all_tags_and_the_first_in_place(tags: list[str], seed: int, keep: int) -> None:
    subset = replace(PLAIN, shuffle_caption=True, keep_tokens=keep)
    shown = caption_variant(", ".join(tags), subset, seed, 0).split(", ")
    assert shown[:keep] == tags[:keep]
    assert sorted(shown) == sorted(tags)
    assert shown == caption_variant(", ".join(tags), subset, seed, 0).split(", ")


def test_shuffling_differs_from_seed_to_seed() -> None:
    subset = replace(PLAIN, shuffle_caption=True)
    assert len({caption_variant("a, b, c, d", subset, seed, 0) for seed in range(200)}) == 24


def test_a_separator_marks_what_stays_in_front_and_behind() -> None:
    subset = replace(PLAIN, shuffle_caption=True, keep_tokens=1, keep_tokens_separator="|||")
    shown = {caption_variant("x, y ||| a, b ||| z", subset, seed, 0) for seed in range(50)}
    assert shown == {"x, y, a, b, z", "x, y, b, a, z"}
    assert caption_variant("x ||| a", replace(subset, shuffle_caption=False), 0, 0) == "x, a"
    without = {caption_variant("x, a, b", subset, seed, 0) for seed in range(50)}
    assert without == {"x, a, b", "x, b, a"}


def test_tags_are_joined_with_their_own_separator() -> None:
    subset = replace(PLAIN, shuffle_caption=True, keep_tokens=9, caption_separator=";")
    assert caption_variant("a;b ; c, d", subset, 0, 0) == "a; b; c, d"


def test_prefix_and_suffix() -> None:
    subset = replace(PLAIN, caption_prefix="best", caption_suffix="end")
    assert caption_variant("dog", subset, 0, 0) == "best dog end"
    assert caption_variant("", subset, 0, 0) == "best end"


def test_captions_are_dropped_at_their_rate() -> None:
    subset = replace(PLAIN, caption_dropout_rate=0.25, caption_prefix="p")
    dropped = sum(caption_variant("dog", subset, seed, 0) == "" for seed in range(4000))
    assert 0.22 < dropped / 4000 < 0.28
    assert caption_variant("dog", replace(PLAIN, caption_dropout_rate=1.0), 0, 0) == ""


def test_every_nth_epoch_is_without_captions() -> None:
    subset = replace(PLAIN, caption_dropout_every_n_epochs=3)
    shown = [caption_variant("dog", subset, 0, epoch) for epoch in range(6)]
    assert shown == ["dog", "dog", "", "dog", "dog", ""]


def test_free_tags_are_dropped_at_their_rate_and_kept_ones_never() -> None:
    subset = replace(PLAIN, caption_tag_dropout_rate=0.5, keep_tokens=1)
    shown = [caption_variant("x, a, b", subset, seed, 0).split(", ") for seed in range(2000)]
    assert all(tags[0] == "x" for tags in shown)
    assert 0.45 < sum("a" in tags for tags in shown) / 2000 < 0.55
    assert {tuple(tags) for tags in shown} == {("x", "a", "b"), ("x", "a"), ("x", "b"), ("x",)}


# The whole pipeline, worked by hand: settings, caption -> what is shown, whatever the seed.
BY_HAND = [
    # Prefix and suffix are put on with a blank, so they bring their own commas.
    (
        {"caption_prefix": "best,", "caption_suffix": ", end", "shuffle_caption": True, "keep_tokens": 9},
        "a,b",
        "best, a, b, end",
    ),
    # sd-scripts' own example: the mark in the prefix makes the prefix fixed, that in the suffix the rating.
    (
        {
            "caption_prefix": "1girl, miku |||",
            "caption_suffix": ", anime ||| masterpiece, rating: general",
            "keep_tokens_separator": "|||",
            "caption_tag_dropout_rate": 1.0,
        },
        "stage, smile",
        "1girl, miku, masterpiece, rating: general",
    ),
    # Dropout beats everything, the trigger words too.
    ({"caption_dropout_rate": 1.0, "caption_prefix": "p", "trigger_words": "sks"}, "a", ""),
    # The choice is made before the caption is cut into tags: what it brings counts as tags.
    ({"enable_wildcard": True, "keep_tokens": 2, "caption_tag_dropout_rate": 1.0}, "{x, y}, z", "x, y"),
    ({"enable_wildcard": True, "caption_prefix": "{p}", "caption_suffix": "{{s}}"}, "a", "p a {s}"),
    # Parts held together are one tag, and the separator comes back in the end, without a blank.
    ({"secondary_separator": ";;;"}, "sky;;;cloud;;;day, out", "sky,cloud,day, out"),
    ({"secondary_separator": ";;;", "keep_tokens": 1, "caption_tag_dropout_rate": 1.0}, "a;;;b, c", "a,b"),
    (
        {"secondary_separator": "/", "caption_separator": ";", "shuffle_caption": True, "keep_tokens": 5},
        "a/b;c",
        "a;b; c",
    ),
    # Warmup counts what is free before it is shuffled: after 2 of 4 steps, 1 + 2 * (5 - 1) / 4 tags.
    ({"token_warmup_step": 4, "keep_tokens": 1}, "k, a, b, c, d, e", "k, a, b, c"),
    # Trigger words come in front of what lacks them, and last, so that nothing shuffles or drops them.
    ({"trigger_words": "sks, dog", "caption_tag_dropout_rate": 1.0}, "a, b", "sks, dog"),
    ({"trigger_words": "sks, dog"}, "a Dog, sitting", "sks, a Dog, sitting"),
    ({"trigger_words": "sks"}, "(sks:1.2) dog", "(sks:1.2) dog"),
    ({"trigger_words": "sks"}, "skssks dog", "sks, skssks dog"),
    ({"trigger_words": "sks", "caption_separator": ";"}, "", "sks"),
]


@pytest.mark.parametrize(("changes", "caption", "shown"), BY_HAND)
def test_the_order_of_the_steps(changes: dict[str, Any], caption: str, shown: str) -> None:
    subset = replace(PLAIN, **changes)
    assert {caption_variant(caption, subset, seed, 0, step=2, steps=9) for seed in range(20)} == {shown}


def test_a_line_of_several_each_with_prefix_and_suffix() -> None:
    subset = replace(PLAIN, enable_wildcard=True, caption_prefix="p", caption_suffix="s")
    shown = {caption_variant("one\ntwo {a|b}", subset, seed, 0) for seed in range(60)}
    assert shown == {"p one s", "p two a s", "p two b s"}


def test_secondary_parts_are_shuffled_as_one() -> None:
    subset = replace(PLAIN, shuffle_caption=True, secondary_separator=";;;")
    shown = {caption_variant("a, b;;;c, d", subset, seed, 0) for seed in range(200)}
    assert len(shown) == 6 and all("b,c" in text for text in shown)


@pytest.mark.parametrize(
    ("warmup", "steps", "counts"),
    [
        (4, 100, [1, 2, 3, 4, 5, 5]),
        (0.5, 8, [1, 2, 3, 4, 5, 5]),
        (8, 100, [1, 1, 2, 2, 3, 3, 4, 4, 5]),
        (1, 100, [1, 5]),
        (0, 100, [5, 5]),
        (0.1, 5, [5, 5]),  # less than one step
    ],
)
def test_token_warmup_adds_tags_evenly(warmup: float, steps: int, counts: list[int]) -> None:
    subset = replace(PLAIN, token_warmup_step=warmup)
    for step, count in enumerate(counts):
        assert caption_variant("a, b, c, d, e", subset, 0, 0, step, steps) == ", ".join("abcde"[:count])


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 30), st.integers(1, 25))
def test_token_warmup_never_goes_back(count: int, least: int, step: int, warmup: int) -> None:
    subset = replace(PLAIN, token_warmup_step=warmup, token_warmup_min=least, keep_tokens=1)
    caption = ", ".join(f"t{number}" for number in range(count + 1))
    now, then = (caption_variant(caption, subset, 0, 0, s, 0).split(", ") for s in (step, step + 1))
    assert now == then[: len(now)]
    assert len(now) >= min(least, count) + 1
    assert step < warmup or len(now) == count + 1


WORDS = st.text("ab", min_size=1, max_size=3)
SUBSETS = st.builds(
    Subset,
    image_dir=st.just(Path("folder")),
    caption_separator=st.sampled_from([",", ";", " "]),
    caption_prefix=st.none() | WORDS,
    caption_suffix=st.none() | WORDS,
    trigger_words=st.none() | WORDS,
    secondary_separator=st.sampled_from([None, ";;;"]),
    enable_wildcard=st.booleans(),
    shuffle_caption=st.booleans(),
    keep_tokens=st.integers(0, 3),
    keep_tokens_separator=st.sampled_from([None, "|||"]),
    caption_dropout_rate=st.sampled_from([0.0, 0.5]),
    caption_tag_dropout_rate=st.sampled_from([0.0, 0.5]),
    token_warmup_min=st.integers(0, 3),
    token_warmup_step=st.sampled_from([0, 5, 0.5]),
)


@given(st.text() | st.text("ab,;{}|$1 \n"), SUBSETS, SEEDS, st.integers(0, 12))
def test_any_caption_survives_any_settings(caption: str, subset: Subset, seed: int, step: int) -> None:
    shown = caption_variant(caption, subset, seed, step // 4, step, 12)
    assert shown == caption_variant(caption, subset, seed, step // 4, step, 12)
    assert whole_captions(caption, subset)


@given(TAGS, SUBSETS, SEEDS, st.integers(0, 12))
def test_no_tag_is_invented_and_none_lost_but_by_chance_and_warmup(
    tags: list[str], subset: Subset, seed: int, step: int
) -> None:
    """Blanks separate here too, so that words are what is counted."""
    shown = caption_variant(f"{subset.caption_separator} ".join(tags), subset, seed, 0, step, 12)
    known = [*" ".join(tags).split(), *filter(None, [subset.caption_prefix, subset.caption_suffix])]
    words = Counter(shown.replace(subset.caption_separator, " ").split())
    whole = Counter(known) | Counter(filter(None, [subset.trigger_words]))
    assert words <= whole
    if not (subset.caption_dropout_rate or subset.caption_tag_dropout_rate or subset.token_warmup_step):
        assert words >= Counter(known)
    if shown and subset.trigger_words:
        assert words[subset.trigger_words] >= 1


@given(TAGS, SUBSETS, SEEDS, SEEDS, st.integers(0, 5), st.integers(0, 12))
def test_a_constant_caption_is_always_the_same(
    tags: list[str], subset: Subset, seed: int, other: int, epoch: int, step: int
) -> None:
    caption = ", ".join(tags)
    assert is_constant(replace(without_chance(subset), enable_wildcard=False))
    if is_constant(subset):
        shown = caption_variant(caption, subset, seed, 0, 0, 12)
        assert shown == caption_variant(caption, subset, other, epoch, step, 12)


def test_whole_captions_are_the_longest_there_can_be() -> None:
    subset = replace(
        PLAIN, enable_wildcard=True, caption_prefix="p", trigger_words="sks", caption_tag_dropout_rate=0.5,
        keep_tokens_separator="|||", caption_dropout_rate=0.5, token_warmup_step=9,
    )  # fmt: skip
    assert whole_captions("{a|bb|c} ||| x\nsks", subset) == ["sks, p bb, x", "p sks"]
