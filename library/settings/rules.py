"""What a setting's field knows about itself: its sentence, and which values it takes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What is allowed for one setting, and what it means.

    `aliases` are other spellings of a choice; `refusals` are values with the reason why they are not taken. With
    `dotted` the dotted name of a Python class is a choice too. `low` and `high` are inclusive. With `zero_is_unset` a
    0 means the same as leaving the setting out.
    """

    help: str
    choices: tuple[Any, ...] = ()
    aliases: Mapping[str, Any] = field(default_factory=dict)
    refusals: Mapping[str, str] = field(default_factory=dict)
    low: float | None = None
    high: float | None = None
    zero_is_unset: bool = False
    dotted: bool = False


def option(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with its rule; `limits` are the other fields of Rule."""
    return field(default=default, metadata={"rule": Rule(help, **limits)})
