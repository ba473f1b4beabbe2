"""InputError holds its sentences apart and shows them one a line."""

import re

import pytest

from library.errors import InputError, blaming


def test_sentences_are_kept_and_shown_one_a_line() -> None:
    error = InputError("the first is wrong.", "the second too.")
    assert error.sentences == ("the first is wrong.", "the second too.")
    assert str(error) == "the first is wrong.\nthe second too."


def test_many_complaints_make_one_error() -> None:
    error = InputError.of(f"number {number} is wrong." for number in range(3))
    assert error.sentences == ("number 0 is wrong.", "number 1 is wrong.", "number 2 is wrong.")


def test_what_stumbles_over_a_file_blames_it() -> None:
    for error in (KeyError("a"), ValueError("b\nc"), RecursionError("d"), re.error("e"), ZeroDivisionError()):
        with pytest.raises(InputError, match=r"^x\.safetensors: .*damaged.*\)\.$"), blaming("x.safetensors"):
            raise error


def test_what_is_no_fault_of_a_file_stays_what_it_is() -> None:
    for error in (RuntimeError("out of memory"), InputError("clear"), KeyboardInterrupt(), OSError("disk")):
        with pytest.raises(type(error)) as found, blaming("x"):
            raise error
        assert found.value is error
