"""InputError holds its sentences apart and shows them one a line."""

import errno
import re

import pytest

from library.errors import InputError, blaming, is_full_memory


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


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("unable to mmap 6440040 bytes from file <a>: Cannot allocate memory (12)"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("Resource temporarily unavailable"),
        RuntimeError("can't start new thread"),
    ],
)
def test_full_memory_in_other_words(error: Exception) -> None:
    """As they were met under `ulimit -v`; a file is not to blame for it."""
    assert is_full_memory(error)
    with pytest.raises(type(error)) as found, blaming("x"):
        raise error
    assert found.value is error


def test_other_errors_are_not_taken_for_full_memory() -> None:
    for error in (ValueError("out of memory"), RuntimeError("shapes differ"), OSError(errno.ENOSPC, "full")):
        assert not is_full_memory(error)
