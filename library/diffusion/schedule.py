"""The noise schedule: how much of a picture is left at a timestep, and what the model predicts there."""

import torch
from torch import Tensor

from library.errors import InputError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")


class Schedule:
    """A discrete variance-preserving schedule (DDPM, Ho et al. 2020, arXiv 2006.11239).

    Args:
        alphas_cumprod: (steps,) the signal's share of the variance, falling from almost 1 to almost 0.
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        # float32 whatever the model computes in: in bfloat16 the first 50 timesteps would all be one value.
        self.alphas_cumprod = alphas_cumprod.to(torch.float32)
        self._signal = alphas_cumprod.sqrt().to(torch.float32)
        self._noise = (1 - alphas_cumprod).sqrt().to(torch.float32)

    @property
    def steps(self) -> int:
        """Number of timesteps; valid timesteps are 0 .. steps - 1."""
        return len(self.alphas_cumprod)

    def to_zero_snr(self) -> "Schedule":
        """The same schedule, its square roots shifted and stretched so that the last timestep is pure noise
        (Lin et al. 2023, arXiv 2305.08891, algorithm 1).
        """
        signal = self.alphas_cumprod.double().sqrt()
        stretched = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
        return Schedule(stretched**2)

    def to(self, device: torch.device | str) -> "Schedule":
        """The same schedule with its tables on `device`, so that looking up a timestep needs no host sync."""
        moved = Schedule.__new__(Schedule)
        moved.alphas_cumprod = self.alphas_cumprod.to(device)
        moved._signal = self._signal.to(device)
        moved._noise = self._noise.to(device)
        return moved

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise (DDPM, equation 4).

        Args:
            latents, noise: (batch, channels, height, width)
            timesteps: (batch,) int64 on the schedule's device

        Returns:
            (batch, channels, height, width) float32
        """
        signal, spread = self._at(timesteps, latents.dim())
        return signal * latents + spread * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor, prediction_type: str) -> Tensor:
        """What the model should answer, (batch, channels, height, width) float32.

        "epsilon" is the noise, "sample" the clean latents, "v_prediction" sqrt(a_t) noise - sqrt(1 - a_t) x_0
        (Salimans and Ho 2022, arXiv 2202.00512, appendix D).

        Raises:
            InputError: the model's prediction type is none of these.
        """
        check_prediction_type(prediction_type)
        if prediction_type == "epsilon":
            return noise.float()
        if prediction_type == "sample":
            return latents.float()
        signal, spread = self._at(timesteps, latents.dim())
        return signal * noise - spread * latents

    def snr(self, timesteps: Tensor) -> Tensor:
        """Signal-to-noise ratio a_t / (1 - a_t), (batch,) float32."""
        return (self._signal[timesteps] / self._noise[timesteps]) ** 2

    def _at(self, timesteps: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
        shape = (-1,) + (1,) * (dimensions - 1)
        return self._signal[timesteps].reshape(shape), self._noise[timesteps].reshape(shape)


def scaled_linear(beta_start: float, beta_end: float, steps: int) -> Schedule:
    """Stable Diffusion's schedule: sqrt(beta) rises linearly, a_t is the product of 1 - beta.

    It is computed in float64 and rounded once, so 1000 factors do not add up 1000 rounding errors.
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    return Schedule((1 - betas).cumprod(0))


def check_prediction_type(prediction_type: str) -> None:
    """InputError unless the mathematics here know the model's prediction type."""
    if prediction_type not in PREDICTION_TYPES:
        raise InputError(
            f'The base model\'s prediction type "{prediction_type}" is not supported; '
            f"supported are {', '.join(PREDICTION_TYPES)}."
        )
