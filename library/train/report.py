"""What a person sees of a run while it goes: a progress bar and TensorBoard."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from library.device import peak_memory_gb
from library.train.health import Health

SMOOTHING = 0.98


class Report:
    """Collects losses on the device and reads them every few steps, so that the device never waits for the CPU."""

    def __init__(
        self,
        folder: Path | None,
        steps: int,
        first_step: int,
        read_every: int,
        device: torch.device,
        health: Health | None = None,
    ) -> None:
        """`folder` gets the TensorBoard files; None means that this process is silent. `health` judges the numbers."""
        self.health = health or Health()
        self.folder, self.read_every, self.device = folder, read_every, device
        self.average, self.average_weight = 0.0, 0.0
        self._waiting: list[tuple[int, Tensor, Tensor, dict[str, float]]] = []
        self._epoch_losses: list[float] = []
        self._samples, self._clock = 0, time.perf_counter()
        self._writer = None
        self._bar = tqdm(
            total=steps,
            initial=first_step,
            unit="step",
            dynamic_ncols=True,
            disable=folder is None,
            desc="training",
        )
        if folder is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)

    def text(self, tag: str, text: str) -> None:
        """A text for TensorBoard, in Markdown."""
        if self._writer:
            self._writer.add_text(tag, text)

    def step(self, step: int, loss: Tensor, gradient_norm: Tensor, rates: Mapping[str, float], samples: int) -> None:
        """One finished step; the tensors are scalars that stay on the device until they are read."""
        self._waiting.append((step, loss, gradient_norm, dict(rates)))
        self._samples += samples
        self._bar.update(1)
        if len(self._waiting) >= self.read_every:
            self.read()

    def read(self) -> None:
        """Reads the waiting losses in one transfer, writes them down and raises if training has gone astray.

        Raises FloatingPointError at losses and gradients that are no finite numbers, as `Health` says.
        """
        if not self._waiting:
            return
        values = torch.stack([torch.stack((loss, norm)) for _, loss, norm, _ in self._waiting]).float().cpu()
        waiting, self._waiting = self._waiting, []
        for (step, _, _, rates), (loss, norm) in zip(waiting, values.tolist(), strict=True):
            if not self.health.judge(step, loss, norm):
                continue
            self.average = SMOOTHING * self.average + (1 - SMOOTHING) * loss
            self.average_weight = SMOOTHING * self.average_weight + (1 - SMOOTHING)
            self._epoch_losses.append(loss)
            self.scalars(step, {"loss/current": loss, "loss/average": self.smoothed, "norm/gradient": norm, **rates})
        self._show(waiting[-1][0])

    def _show(self, step: int) -> None:
        now = time.perf_counter()
        speed, memory = self._samples / max(now - self._clock, 1e-9), peak_memory_gb(self.device)
        self._samples, self._clock = 0, now
        self.scalars(step, {"speed/pictures_per_second": speed, "memory/peak_gb": memory})
        figures = {"loss": f"{self.smoothed:.4f}", "pictures/s": f"{speed:.1f}", "peak": f"{memory:.1f} GB"}
        self._bar.set_postfix(figures)

    @property
    def smoothed(self) -> float:
        """The running average of the loss, without the pull of its start at zero."""
        return self.average / self.average_weight if self.average_weight else 0.0

    def epoch(self, step: int) -> None:
        """The end of an epoch: its average loss."""
        self.read()
        if self._epoch_losses:
            self.scalars(step, {"loss/epoch_average": float(np.mean(self._epoch_losses))})
        self._epoch_losses.clear()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Points of curves at `step`."""
        if self._writer:
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, step)

    def picture(self, step: int, tag: str, image: Image.Image, caption: str) -> None:
        """A preview, with its prompt beside it."""
        if self._writer:
            self._writer.add_image(tag, np.asarray(image.convert("RGB")), step, dataformats="HWC")
            self._writer.add_text(tag, caption, step)

    def say(self, message: str) -> None:
        """A line above the progress bar."""
        if self.folder is not None:
            self._bar.write(message)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs for curves without a break; the points so far are on the disk then."""
        self.read()
        if self._writer:
            self._writer.flush()
        return {
            "average": self.average,
            "average_weight": self.average_weight,
            "epoch_losses": self._epoch_losses,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes up the averages of the run that is resumed."""
        self.average, self.average_weight = state["average"], state["average_weight"]
        self._epoch_losses = list(state["epoch_losses"])

    def close(self) -> None:
        """Writes what is left and takes the bar away."""
        self._bar.close()
        if self._writer:
            self._writer.close()
