"""Captions: found beside the picture, read as UTF-8, varied as a function of the seed."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.captions import caption_variant, read_caption
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
