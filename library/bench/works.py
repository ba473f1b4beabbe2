"""What is measured: kinds of training on models of true size, or scaled down for a CPU."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from library.bench.contestants import ours, plain
from library.bench.imagined import imagine
from library.bench.rounds import alone, clean, race
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

    def settings(self, precision: str) -> Settings:
        """Settings of the run: rank 16 on the UNet alone, or all of its weights."""
        adapter: dict[str, Any] = {} if self.whole else {"network_module": "lora", "network_train_unet_only": True}
        return Settings(
            train_batch_size=self.batch,
            mixed_precision=precision,
            **adapter,
        )


def works_of(small: bool) -> list[Work]:
    """The rows: SD 1.5 at 512 and SDXL at 1024, LoRA and all weights; or SD 1.5 scaled down, at 256."""
    if small:
        return [Work("sd1", 256, batch, whole, True) for whole in (False, True) for batch in BATCHES]
    sizes = {"sd1": 512, "sdxl": 1024}
    return [Work(*each, batch, whole) for each in sizes.items() for whole in (False, True) for batch in BATCHES]


def measure(works: list[Work], compute: Compute, precision: str, rounds: int, steps: int) -> Iterator[dict[str, Any]]:
    """Each work's row, as soon as it is measured.

    On a CPU both ways take turns, so that noise falls on both; on a GPU each has the memory for itself.
    """
    for work in works:
        settings, family, device = work.settings(precision), imagine(work.family, work.small), compute.device
        torch.manual_seed(0)
        if device.type == "cuda":
            mine = alone(ours(settings, family, compute, work.size), device, rounds, steps)
            clean(device)
            reference = alone(plain(settings, family, compute, work.size), device, rounds, steps)
        else:
            both = {each.__name__: each(settings, family, compute, work.size) for each in (ours, plain)}
            mine, reference = race(both, device, rounds, steps).values()
            del both
        clean(device)
        yield {
            "work": work.name,
            "ours_ms": round(mine.ms, 2),
            "reference_ms": round(reference.ms, 2),
            "ratio": round(reference.ms / mine.ms, 3),
            "peak_gb": mine.peak_gb,
            "reference_peak_gb": reference.peak_gb,
            "pictures_per_second": round(work.batch / mine.ms * 1e3, 2),
        }
