"""Names in tables: found whatever their case, and guessed when misspelt."""

import math

import pytest

from library import lookup


def test_a_target_is_the_object_behind_it() -> None:
    assert lookup.resolve("math:tau") == math.tau


def test_a_target_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AttributeError):
        lookup.resolve("math:no_such_number")


CASES = [("adamw8BIT", "AdamW8bit"), ("AdamW", "AdamW"), ("AdamW9", None)]
GUESSES = [("adamw8bits", "AdamW8bit"), ("Prodigi", "Prodigy"), ("xyz", None)]


@pytest.mark.parametrize(("written", "name"), CASES)
def test_names_are_found_whatever_their_case(written: str, name: str | None) -> None:
    assert lookup.find_name(written, lookup.OPTIMIZERS) == name


@pytest.mark.parametrize(("written", "name"), GUESSES)
def test_a_misspelt_name_is_guessed(written: str, name: str | None) -> None:
    assert lookup.nearest(written, lookup.OPTIMIZERS) == name
