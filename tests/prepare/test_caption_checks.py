"""What is found wrong with captions and buckets."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.prepare import caption_checks
from library.prepare.caption_checks import bucket_samples, common_tags, holds, tag_counts
from library.prepare.examined import Caption, Examined
from library.prepare.findings import ERROR, NOTE, WARNING, Finding
from tests.prepare.patients import SUBSET, looks, seen, unseen, wish

FINE = [seen(f"fine_{number}.png", f"sks, thing, number {number}") for number in range(6)]


def found(pictures: list[Examined], **changes: object) -> dict[str, Finding]:
    """The findings of all checks, by kind."""
    results = [each for check in caption_checks.CHECKS for each in check(pictures, wish(**changes))]
    assert len({each.kind for each in results}) == len(results)
    return {each.kind: each for each in results if each.kind != "common_tag"}


def names(each: Finding) -> dict[str, str]:
    """The pictures of a finding by name, with what is said of each."""
    return {path.name: words for path, words in each.pictures.items()}


def test_fine_captions_are_left_alone() -> None:
    assert found(FINE, trigger_word="sks") == {}


def test_missing_and_empty_captions_are_told_apart() -> None:
    none, empty = seen("none.png", Caption()), seen("empty.png", Caption(has_file=True))
    broken = replace(unseen("broken.png"), caption=Caption())
    result = found([*FINE, none, empty, broken])
    assert {kind: list(names(each)) for kind, each in result.items()} == {
        "caption_missing": ["none.png"],
        "caption_empty": ["empty.png"],
    }
    assert {each.severity for each in result.values()} == {WARNING}
    assert found([none, replace(none, path=empty.path)])["caption_missing"].severity == ERROR


def test_class_words_are_no_fault() -> None:
    caption = Caption((), ("sks dog",), 2)
    result = found([seen(f"{number}.png", caption) for number in range(3)])
    assert (list(result), result["class_words"].severity) == (["class_words"], NOTE)
    assert "'sks dog'" in result["class_words"].sentence


def test_captions_that_are_not_read_are_told() -> None:
    wrong = seen("wrong.png", Caption(has_file=True, problem="the caption is not UTF-8 text."))
    several = seen("several.png", Caption(("a", "b", "c"), ("a",), 1, has_file=True))
    result = found([*FINE, wrong, several])
    assert (names(result["caption_not_text"]), result["caption_not_text"].severity) == ({"wrong.png": ""}, ERROR)
    assert (names(result["caption_lines"]), result["caption_lines"].severity) == ({"several.png": "3 lines"}, NOTE)
    assert len(result) == 2
    wild = replace(several, subset=replace(SUBSET, enable_wildcard=True))
    assert found([*FINE, wild]) == {}


@pytest.mark.parametrize(("most", "told"), [(75, ["76.png", "150.png"]), (150, []), (225, [])])
def test_captions_are_measured_against_what_is_read(most: int, told: list[str]) -> None:
    long = [seen(f"{tokens}.png", Caption(("x",), (f"x {tokens}",), tokens, True)) for tokens in (75, 76, 150)]
    result = found([*FINE, *long], max_token_length=most)
    assert list(names(result["caption_long"])) == told if told else "caption_long" not in result
    longest = found([seen("a.png", Caption(("x",), ("x",), 300, True))], max_token_length=225)["caption_long"]
    assert names(longest) == {"a.png": "300 tokens"} and "max_token_length" not in longest.sentence


def test_captions_without_the_trigger_are_told() -> None:
    bare = Caption()
    texts = {"other.png": "asks for, a thing", "capital.png": "SKS, a dog", "bare.png": bare}
    pictures = [*FINE, *(seen(name, text) for name, text in texts.items())]
    assert list(names(found(pictures, trigger_word="sks")["trigger_missing"])) == ["other.png"]
    assert "trigger_missing" not in found(pictures)
    assert found(FINE, trigger_word="ohwx")["trigger_missing"].severity == ERROR


@pytest.mark.parametrize(
    ("text", "words", "is_there"),
    [
        ("a photo of sks dog", "sks dog", True),
        ("a photo of sks  dog,", "sks dog", True),
        ("sks, dog", "sks dog", False),
        ("task", "sk", False),
        ("c++, good", "c++", True),
        ("", "sks", False),
    ],
)
def test_words_are_found_as_whole_words(text: str, words: str, is_there: bool) -> None:
    assert holds(text, words) == is_there


@given(st.text(min_size=1).filter(str.strip))
def test_any_words_hold_themselves(words: str) -> None:
    assert holds(f" {words}, ", words.strip())


def test_one_caption_for_all_is_told() -> None:
    same = [seen(f"{number}.png", "sks dog") for number in range(3)]
    result = found(same)
    assert list(result) == ["captions_same"] and "'sks dog'" in result["captions_same"].sentence
    assert found(same[:1]) == found([*same, FINE[0]]) == {}


def test_tags_of_nearly_all_captions_are_told() -> None:
    texts = [f"sks, Photo, thing {number}" for number in range(9)] + ["sks, drawing"]
    pictures = [seen(f"{number}.png", text) for number, text in enumerate(texts)]
    assert common_tags(pictures, "sks") == [("photo", 9)]
    assert common_tags(pictures, "") == [("sks", 10), ("photo", 9)]
    assert common_tags(pictures[:4], "") == []
    told = [each for each in caption_checks.contents(pictures, wish(trigger_word="sks")) if each.kind == "common_tag"]
    assert "'photo' (9 of 10)" in told[0].sentence and told[0].severity == NOTE


def test_tags_are_counted_once_a_picture() -> None:
    lines = Caption(("a, b", "A"), ("a, b", "A"), 2, True)
    semicolon = replace(SUBSET, caption_separator=";")
    counts = tag_counts([seen("1.png", lines), seen("2.png", "a, c"), seen("3.png", "a, c; d", subset=semicolon)])
    assert counts == {"a": 2, "b": 1, "c": 1, "a, c": 1, "d": 1}


def test_buckets_are_measured_in_batches() -> None:
    wide = looks(width=1024, height=512)
    often = replace(SUBSET, num_repeats=3)
    pictures = [*FINE[:2], seen("wide.png", seen_as=wide), seen("often.png", seen_as=wide, subset=often)]
    pictures.append(unseen("broken.png"))
    assert bucket_samples(pictures) == {(512, 512): 2, (704, 320): 4}
    assert "small_bucket" not in found(pictures) and "small_bucket" not in found(pictures, train_batch_size=2)
    result = found(pictures, train_batch_size=4)["small_bucket"]
    assert names(result) == {"fine_0.png": "512x512", "fine_1.png": "512x512"}
    assert len(found(pictures, train_batch_size=5)["small_bucket"].pictures) == 4
