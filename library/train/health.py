"""Whether the numbers of a run make sense: losses and gradients that are none, and runs in which nothing learns."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from torch import Tensor

from library.log import warn

SCALING = 40  # steps in a row in which fp16's loss scaling may look for its scale; it halves it each time
DEAD = 10  # steps in a row that are no chance any more
SHOWN = 5  # pictures that a sentence names


class Health:
    """Judges each step by its loss and the norm of its gradients, when they are read.

    `allowed` steps in a row may be without finite numbers; the learner leaves the weights alone in them. With
    `is_scaled`, in fp16, infinite gradients alone are the loss scaling at work.
    """

    def __init__(self, allowed: int = 0, is_scaled: bool = False) -> None:
        self.allowed, self.is_scaled = allowed, is_scaled
        self._noted: dict[int, list[tuple[Sequence[str], Tensor]]] = {}
        self._rows: Counter[str] = Counter()
        self._loss: float | None = None

    def note(self, step: int, names: Sequence[str], losses: Tensor) -> None:
        """Keeps the losses of some pictures (batch,) in `step`, on their device, until it is judged."""
        self._noted.setdefault(step, []).append((names, losses.detach()))

    def judge(self, step: int, loss: float, norm: float) -> bool:
        """Whether a step's loss is a number.

        Raises FloatingPointError, naming the pictures, at more steps without finite numbers than are allowed.
        """
        noted = self._noted.pop(step, [])
        if math.isfinite(loss) and math.isfinite(norm):
            self._rows["bad"] = 0
            self._look_for_life(step, loss, norm)
            return True
        self._rows["bad"] += 1
        is_search = self.is_scaled and math.isfinite(loss)
        what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
        sentence = f"step {step}: {what}{_culprits(noted, loss)}"
        if self._rows["bad"] > max(self.allowed, SCALING if is_search else 0):
            row = f" in {self._rows['bad']} steps in a row" if self._rows["bad"] > 1 else ""
            raise FloatingPointError(sentence + row)
        if not is_search:
            warn(f"{sentence}; the weights stay as they were before it.")
        return math.isfinite(loss)

    def _look_for_life(self, step: int, loss: float, norm: float) -> None:
        """Warns where nothing learns."""
        signs = {
            "the gradients have been exactly 0": norm == 0,
            "the loss has been exactly the same": loss == self._loss,
        }
        self._loss = loss
        for sign, is_there in signs.items():
            self._rows[sign] = self._rows[sign] + 1 if is_there else 0
            if self._rows[sign] == DEAD:
                warn(
                    f"step {step}: {sign} for {DEAD} steps, so this run learns nothing; look at the learning rates, "
                    "the masks, the pictures and the base model."
                )


def _culprits(noted: Iterable[tuple[Sequence[str], Tensor]], loss: float) -> str:
    """The pictures whose own loss is no number; where the sum is one all of them, for each may be to blame."""
    names: dict[str, None] = {}
    for pictures, losses in noted:
        finite = losses.isfinite().tolist() if not math.isfinite(loss) else [False] * len(pictures)
        names |= dict.fromkeys(name for name, is_finite in zip(pictures, finite, strict=True) if not is_finite)
    if not names:
        return ""
    shown = list(names)[:SHOWN]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f" with {', '.join(shown)}{more}"
