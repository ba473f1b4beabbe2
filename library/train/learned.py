"""What the loop, the states and the optimizer know of whatever learns: adapters, whole parts of a model, or both."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Learned(Protocol):
    """Something that learns, in pieces."""

    @property
    def layers(self) -> Mapping[str, Mapping[str, Any]]:
        """The pieces by part and name; their order is that of the optimizer."""

    def parameters(self, part: str) -> list[nn.Parameter]:
        """What learns in a part; empty if nothing does."""

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of everything that learns on the CPU, by names that `load` knows."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave. Raises InputError where it does not fit."""
