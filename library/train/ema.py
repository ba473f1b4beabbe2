"""The running average of what learns (Polyak and Juditsky 1992), which is steadier than its last step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from library.train.learned import Learned
from library.train.sharding import take_over

PREFIX = "average "  # of its tensors' names in a state


class Ema:
    """Averages in float32 of everything that learns, on a device of their own."""

    def __init__(self, learned: Learned, decay: float, device: torch.device) -> None:
        self.decay = decay
        self._weights: dict[str, Tensor] = {
            f"{PREFIX}{part} {number}": weight
            for part in learned.layers
            for number, weight in enumerate(learned.parameters(part))
        }
        self._averages = {
            name: weight.detach().to(device, torch.float32, copy=True) for name, weight in self._weights.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after `step` finished steps, of which each later one counts for less.

        In the first steps more than 1 - decay is taken, for else the average would be the start for thousands of them.
        """
        share = 1 - min(self.decay, step / (9 + step))
        for name, average in self._averages.items():
            average.lerp_(self._weights[name].detach().to(average.device, torch.float32), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it, the model's weights are the averages; nothing is copied, so that they may be on another device."""
        before = {name: weight.data for name, weight in self._weights.items()}
        try:
            for name, weight in self._weights.items():
                weight.data = self._averages[name]
            yield
        finally:
            for name, weight in self._weights.items():
                weight.data = before[name]

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the averages on the CPU; their names are no others' in a state."""
        return {name: average.to("cpu", copy=True) for name, average in self._averages.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        for name, average in self._averages.items():
            take_over(average, state[name])

    def tables(self) -> list[dict[str, Tensor]]:
        """Where weights and averages are kept, by name."""
        return [self._weights, self._averages]

    @property
    def averages(self) -> list[Tensor]:
        """The averages themselves."""
        return list(self._averages.values())
