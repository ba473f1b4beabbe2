"""Words of captions: loops are found and cut, forced words are in, forbidden ones are not."""

import string
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.prepare.words import Wording, cut_loops, has_phrase, joined, mend, split_phrases, without

WORD = st.sampled_from(["a", "cat", "and", "red", "hat", "on", "it's", "the", "mat,", "end."])
TEXT = st.lists(WORD, max_size=14).map(" ".join)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("a cat and a cat and a cat", "a cat"),
        ("a cat and a cat and a cat on a mat", "a cat on a mat"),
        ("a cat and a cat and a dog", "a cat and a dog"),
        ("a cat and a cat and a cat and a dog", "a cat and a dog"),
        ("a cat with a cat with a cat with a", "a cat"),
        ("a woman on a bench in the park in the park", "a woman on a bench in the park"),
        ("red, blue, red, blue, red, blue", "red, blue"),
        ("red red red hat", "red hat"),
        ("a hat hat hat.", "a hat."),
        ("A dog, a dog on a mat", "a dog on a mat"),
        ("a b c a b c a b c x x x", "a b c x"),
        ("and and and and", "and"),
    ],
)  # fmt: skip
def test_loops_are_cut(text: str, result: str) -> None:
    assert cut_loops(text) == result


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a round red creature with a hat on a blue background",
        "a very very big cat",
        "side by side,  two  dogs",
        "a red hat and a red scarf and a red coat",
        "two cats and two dogs and two birds",
        "hat hat",
    ],
)
def test_what_is_no_loop_stays_as_it_is(text: str) -> None:
    assert cut_loops(text) == text


@given(TEXT)
def test_cutting_only_takes_away_and_once_is_enough(text: str) -> None:
    cut = cut_loops(text)
    words = iter(text.lower().replace(",", "").split())
    assert all(word in words for word in cut.lower().replace(",", "").split())
    assert cut_loops(cut) == cut
    assert bool(cut) == bool(text)


@given(TEXT.filter(bool), st.integers(2, 6))
def test_every_text_that_is_said_several_times_is_shortened(text: str, times: int) -> None:
    if len(text.split()) == 1:
        times += 1
    whole = " ".join([text] * times)
    assert len(cut_loops(whole).split()) < len(whole.split())


def test_phrases_are_whole_words_in_any_case() -> None:
    assert has_phrase("A Red  hat.", "red hat") and has_phrase("star-shaped", "star")
    assert not has_phrase("a chat", "hat") and not has_phrase("hats", "hat") and not has_phrase("", "hat")
    assert has_phrase("1girl (solo)", "(solo)")


@pytest.mark.parametrize(
    ("text", "phrases", "result"),
    [
        ("a red hat, on a mat", ("hat",), "a red, on a mat"),
        ("arafed, a cat", ("arafed",), "a cat"),
        ("a cat, arafed , a mat.", ("Arafed",), "a cat, a mat"),
        ("cat", ("cat",), ""),
        ("a  chat ,", ("hat",), "a  chat ,"),
    ],
)
def test_forbidden_phrases_leave_nothing_behind(text: str, phrases: tuple[str, ...], result: str) -> None:
    assert without(text, phrases) == result


@given(TEXT, st.lists(st.sampled_from(["cat", "red hat", "and", "a"])))
def test_no_forbidden_phrase_is_left(text: str, phrases: list[str]) -> None:
    assert not any(has_phrase(without(text, phrases), phrase) for phrase in phrases)


def test_parts_are_joined_as_people_write() -> None:
    assert joined("a photo of", " a cat", ", best quality") == "a photo of a cat, best quality"
    assert joined("", "a cat", "") == "a cat"


def test_torn_words_are_mended() -> None:
    assert mend("a man ' s t - shirt - a star - shaped hat") == "a man's t-shirt-a star-shaped hat"
    assert mend("the sign ' stop ' and - well") == "the sign ' stop ' and-well"


def test_lists_of_phrases() -> None:
    assert split_phrases(" red  hat, cat ,,cat") == ("red hat", "cat")
    assert split_phrases("") == ()


def test_everything_has_its_place() -> None:
    wording = Wording("a photo of", "on film.", "sks", ("hat", "cat"), ("dog",))
    assert wording.dress("a cat and a dog.") == "sks, a photo of a cat and a, hat on film."
    assert wording.dress("dog") == ""
    assert Wording(trigger_word="sks").dress("a sks cat") == "a sks cat"
    assert Wording(prefix="a hat:", forced=("hat",)).dress("a cat.") == "a hat: a cat."
    assert Wording().dress("a cat.") == "a cat."


def test_of_several_answers_the_one_with_fewest_faults_is_taken() -> None:
    wording = Wording(forced=("hat", "bow"), forbidden=("dog",))
    answers = ["a cat", "a dog with a hat and a bow", "a cat with a hat", "a hat on a cat"]
    assert wording.choose(answers) == "a cat with a hat"
    assert Wording().choose(answers) == "a cat"


@given(TEXT.filter(lambda text: text.strip(string.punctuation + " ")))
def test_forced_words_and_the_trigger_are_always_there(text: str) -> None:
    caption = Wording("of", "now", "sks", ("blue bird", "cat")).dress(text)
    assert all(has_phrase(caption, phrase) for phrase in ("of", "now", "sks", "blue bird", "cat"))


def test_words_are_handled_without_torch() -> None:
    code = "import sys, library.prepare.words, library.prepare.captioner; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
