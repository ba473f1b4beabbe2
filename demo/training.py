"""What both demo trainings share: a budget of seconds or steps, a learning-rate curve, checkpoints that resume."""

import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch


@dataclass
class Budget:
    """How much of a training is done; counted in steps where `steps` is given, in seconds otherwise."""

    seconds: float
    steps: int | None = None
    done_steps: int = 0
    done_seconds: float = 0.0
    _last: float = field(default_factory=time.monotonic)

    def tick(self) -> None:
        """Count one step and the time since the step before."""
        now = time.monotonic()
        self.done_seconds += now - self._last
        self._last = now
        self.done_steps += 1

    @property
    def fraction(self) -> float:
        """Done part of the budget, 0 to 1."""
        done = self.done_steps / self.steps if self.steps is not None else self.done_seconds / self.seconds
        return min(done, 1.0)


def rate_factor(budget: Budget, warmup_steps: int = 100, flat: float = 0.3) -> float:
    """Learning-rate factor: a short rise by steps, a flat part, then a cosine down to 0 at the budget's end."""
    rise = min(1.0, (budget.done_steps + 1) / warmup_steps)
    fall = max(0.0, (budget.fraction - flat) / (1.0 - flat))
    return rise * 0.5 * (1.0 + math.cos(math.pi * fall))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every parameter group the learning rate, times its own factor if it has one."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)


def save_checkpoint(path: Path, content: dict[str, Any], budget: Budget) -> None:
    """Write the state and how far it is, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    torch.save({**content, "steps": budget.done_steps, "seconds": budget.done_seconds}, temporary)
    os.replace(temporary, path)


def load_checkpoint(path: Path, budget: Budget) -> dict[str, Any] | None:
    """Read a checkpoint if there is one, and count what it had done against the budget."""
    if not path.exists():
        return None
    content = torch.load(path, map_location="cpu", weights_only=True)
    budget.done_steps, budget.done_seconds = content["steps"], content["seconds"]
    return content
