"""The noise schedule as samplers of ordinary differential equations see it: clean latents plus sigma times noise.

x / sqrt(1 + sigma^2) is what the model was trained on (Karras et al. 2022, arXiv 2206.00364, section 2 and table 1).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from library.diffusion.schedule import Schedule, check_prediction_type

LEAST_SIGNAL = 2.0**-24  # of the variance, where a schedule ends in pure noise and sigma would be infinite
RHO = 7.0  # of Karras et al.: how many of the steps lie at small sigmas


class Sigmas:
    """sigma = sqrt((1 - a) / a) at each timestep of a schedule, and between them by the logarithm's straight line."""

    def __init__(self, schedule: Schedule) -> None:
        signal = schedule.alphas_cumprod.double().cpu().clamp(min=LEAST_SIGNAL)
        self.logs = ((1 - signal) / signal).sqrt().log()

    def at(self, timestep: float) -> float:
        """sigma at a timestep, which may be a fraction."""
        low = min(int(timestep), len(self.logs) - 2)
        part = timestep - low
        return math.exp((1 - part) * float(self.logs[low]) + part * float(self.logs[low + 1]))

    def timestep(self, sigma: float) -> float:
        """The timestep at which the noise is `sigma`; the first or last where no timestep has so little or much."""
        log = min(max(math.log(sigma), float(self.logs[0])), float(self.logs[-1]))
        low = min(max(int(torch.searchsorted(self.logs, log, right=True)) - 1, 0), len(self.logs) - 2)
        start, end = float(self.logs[low]), float(self.logs[low + 1])
        return low + (log - start) / (end - start)

    def even(self, steps: int) -> list[float]:
        """Sigmas at evenly spaced timesteps, from the last timestep to the first; then 0."""
        last = len(self.logs) - 1
        places = [last * (1 - step / max(steps - 1, 1)) for step in range(steps)]
        return [*(self.at(place) for place in places), 0.0]

    def karras(self, steps: int) -> list[float]:
        """Sigmas whose seventh roots are evenly spaced (Karras et al. 2022, equation 5), in that range; then 0."""
        largest, least = (math.exp(float(self.logs[place])) ** (1 / RHO) for place in (-1, 0))
        shares = (step / max(steps - 1, 1) for step in range(steps))
        return [*((largest + share * (least - largest)) ** RHO for share in shares), 0.0]


class Denoiser:
    """A model's estimate of the clean latents, from latents with noise of a given sigma.

    `predict` answers latents (batch, channels, h, w) of variance 1 at a timestep, a tensor of no size, in the
    `prediction_type` of the model.
    """

    def __init__(self, predict: Callable[[Tensor, Tensor], Tensor], sigmas: Sigmas, prediction_type: str) -> None:
        check_prediction_type(prediction_type)
        self.predict, self.sigmas, self.prediction_type = predict, sigmas, prediction_type

    def __call__(self, noisy: Tensor, sigma: float) -> Tensor:
        """The clean latents, shaped as `noisy`."""
        signal = 1 / math.sqrt(1 + sigma**2)
        timestep = torch.tensor(self.sigmas.timestep(sigma), dtype=torch.float32, device=noisy.device)
        answer = self.predict(noisy * signal, timestep)
        if self.prediction_type == "sample":
            return answer
        if self.prediction_type == "epsilon":
            return noisy - sigma * answer
        return noisy * signal**2 - answer * (sigma * signal)
