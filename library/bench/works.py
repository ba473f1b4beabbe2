"""What is measured: kinds of training, and drawing, on models of true size, or scaled down for a CPU."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from library.bench.contestants import Step, ours, plain
from library.bench.imagined import imagine
from library.bench.limits import arithmetic, top_speed
from library.bench.painters import our_pictures, pipeline_pictures
from library.bench.rounds import alone, clean, race, seconds
from library.device import Compute
from library.settings import Settings

BATCHES = (1, 4)


@dataclass(frozen=True)
class Work:
    """One row of the table: a family, its pictures' side in pixels, pictures at once, and what learns.

    With `draws` nothing does; a picture is drawn in so many steps.
    """

    family: str
    size: int
    batch: int
    whole: bool = False
    small: bool = False
    draws: int = 0

    @property
    def name(self) -> str:
        """Such as "sdxl 1024 b4 lora" or "sd1 512 b1 draw 50 steps"."""
        start = f"small {self.family}" if self.small else self.family
        what = f"draw {self.draws} steps" if self.draws else "dreambooth" if self.whole else "lora"
        return f"{start} {self.size} b{self.batch} {what}"

    def contestants(self, settings: Settings, compute: Compute) -> tuple[Callable[[], Step], Callable[[], Step]]:
        """What makes this project's way ready, and the reference."""
        family = imagine(self.family, self.small)
        told = (settings, family, compute, self.size)
        if self.draws:
            return partial(our_pictures, *told, self.draws), partial(pipeline_pictures, *told, self.draws)
        return partial(ours, *told), partial(plain, *told)

    def settings(self, precision: str, ways: Mapping[str, Any] | None = None) -> Settings:
        """Settings of the run: rank 16 on the UNet alone, or all of its weights, and `ways` of computing it."""
        adapter: dict[str, Any] = {} if self.whole else {"network_module": "lora", "network_train_unet_only": True}
        return Settings(
            train_batch_size=self.batch,
            mixed_precision=precision,
            **(ways or {}),
            **adapter,
        )


def works_of(small: bool) -> list[Work]:
    """The rows: SD 1.5 at 512 and SDXL at 1024, LoRA and all weights; or SD 1.5 scaled down, at 256. Then drawing."""
    if small:
        trained = [Work("sd1", 256, batch, whole, True) for whole in (False, True) for batch in BATCHES]
        return [*trained, Work("sd1", 256, 1, small=True, draws=10)]
    sizes = {"sd1": 512, "sdxl": 1024}
    trained = [Work(*each, batch, whole) for each in sizes.items() for whole in (False, True) for batch in BATCHES]
    return [*trained, Work("sd1", 512, 1, draws=50)]


def measure(
    works: list[Work],
    compute: Compute,
    precision: str,
    rounds: int,
    steps: int,
    ways: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, Any]]:
    """Each work's row, as soon as it is measured; `ways` are settings of this project's way alone.

    On a CPU both ways take turns, so that noise falls on both; on a GPU each has the memory for itself.
    """
    for work in works:
        device = compute.device
        make_ours, make_reference = work.contestants(work.settings(precision, ways), compute)
        torch.manual_seed(0)
        mine = make_ours()
        first = seconds(partial(mine, 0), device)  # with all that is made ready or compiled in it
        if device.type == "cuda":
            own = alone(mine, device, rounds, steps)
            del mine
            clean(device)
            reference = make_reference()
            other = alone(reference, device, rounds, steps)
        else:
            reference = make_reference()
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
