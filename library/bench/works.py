"""What is measured: kinds of training on models of true size, or scaled down for a CPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from library.bench.contestants import ours, plain
from library.bench.imagined import imagine
from library.bench.limits import arithmetic, top_speed
from library.bench.rounds import alone, clean, race, seconds
from library.device import Compute
from library.settings import Settings

BATCHES = (1, 4)


@dataclass(frozen=True)
class Work:
    """One row of the table: a family, its pictures' side in pixels, pictures at once, and what learns."""

    family: str
    size: int
    batch: int
    whole: bool = False
    small: bool = False

    @property
    def name(self) -> str:
        """Such as "sdxl 1024 b4 lora"."""
        start = f"small {self.family}" if self.small else self.family
        return f"{start} {self.size} b{self.batch} {'dreambooth' if self.whole else 'lora'}"

    def settings(self, precision: str, compile: str = "no") -> Settings:
        """Settings of the run: rank 16 on the UNet alone, or all of its weights."""
        adapter: dict[str, Any] = {} if self.whole else {"network_module": "lora", "network_train_unet_only": True}
        return Settings(
            train_batch_size=self.batch,
            mixed_precision=precision,
            compile=compile,
            **adapter,
        )


def works_of(small: bool) -> list[Work]:
    """The rows: SD 1.5 at 512 and SDXL at 1024, LoRA and all weights; or SD 1.5 scaled down, at 256."""
    if small:
        return [Work("sd1", 256, batch, whole, True) for whole in (False, True) for batch in BATCHES]
    sizes = {"sd1": 512, "sdxl": 1024}
    return [Work(*each, batch, whole) for each in sizes.items() for whole in (False, True) for batch in BATCHES]


def measure(
    works: list[Work], compute: Compute, precision: str, rounds: int, steps: int, compile: str = "no"
) -> Iterator[dict[str, Any]]:
    """Each work's row, as soon as it is measured; `compile` is for this project's way alone.

    On a CPU both ways take turns, so that noise falls on both; on a GPU each has the memory for itself.
    """
    for work in works:
        settings, family, device = work.settings(precision, compile), imagine(work.family, work.small), compute.device
        torch.manual_seed(0)
        mine = ours(settings, family, compute, work.size)
        first = seconds(partial(mine, 0), device)  # with all that is made ready or compiled in it
        if device.type == "cuda":
            own = alone(mine, device, rounds, steps)
            del mine
            clean(device)
            reference = plain(settings, family, compute, work.size)
            other = alone(reference, device, rounds, steps)
        else:
            reference = plain(settings, family, compute, work.size)
            own, other = race({"ours": mine, "plain": reference}, device, rounds, steps).values()
            del mine
        limit = arithmetic(reference) / top_speed(device, compute.dtype) * 1e3
        del reference
        clean(device)
        yield {
            "work": work.name,
            "ours_ms": round(own.ms, 2),
            "reference_ms": round(other.ms, 2),
            "ratio": round(other.ms / own.ms, 3),
            "limit_ms": round(limit, 2),
            "of_limit": round(limit / own.ms, 4),
            "first_step_s": round(first, 2),
            "peak_gb": own.peak_gb,
            "reference_peak_gb": other.peak_gb,
            "pictures_per_second": round(work.batch / own.ms * 1e3, 2),
        }
