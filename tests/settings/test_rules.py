"""A field carries its rule."""

from dataclasses import dataclass, fields

import pytest

from library.settings.rules import Rule, option


@dataclass(frozen=True)
class Example:
    """A group of one setting."""

    size: int = option(3, "The size.", low=1, zero_is_unset=True)


def test_an_option_is_a_field_with_a_default_and_a_rule() -> None:
    (size,) = fields(Example)
    assert Example().size == 3
    assert size.metadata["rule"] == Rule("The size.", low=1, zero_is_unset=True)


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="lowest"):
        option(3, "The size.", lowest=1)
