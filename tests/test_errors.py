"""InputError holds its sentences apart and shows them one a line."""

from library.errors import InputError


def test_sentences_are_kept_and_shown_one_a_line() -> None:
    error = InputError("the first is wrong.", "the second too.")
    assert error.sentences == ("the first is wrong.", "the second too.")
    assert str(error) == "the first is wrong.\nthe second too."


def test_many_complaints_make_one_error() -> None:
    error = InputError.of(f"number {number} is wrong." for number in range(3))
    assert error.sentences == ("number 0 is wrong.", "number 1 is wrong.", "number 2 is wrong.")
