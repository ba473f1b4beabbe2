"""The schedule in sigmas: against diffusers' own, and every prediction type back to the clean latents."""

import diffusers
import pytest
import torch

from library.diffusion.schedule import scaled_linear
from library.diffusion.sigmas import Denoiser, Sigmas

BETAS = (0.00085, 0.012, 1000)
SIGMAS = Sigmas(scaled_linear(*BETAS))


@pytest.mark.parametrize("steps", [2, 3, 25])
@pytest.mark.parametrize("karras", [False, True])
def test_steps_lie_where_diffusers_has_them(steps: int, karras: bool) -> None:
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=BETAS[0], beta_end=BETAS[1], beta_schedule="scaled_linear", use_karras_sigmas=karras
    )
    scheduler.set_timesteps(steps)
    found = SIGMAS.karras(steps) if karras else SIGMAS.even(steps)
    torch.testing.assert_close(torch.tensor(found), scheduler.sigmas.cpu(), rtol=2e-3, atol=1e-4)
    times = torch.tensor([SIGMAS.timestep(sigma) for sigma in found[:-1]])
    torch.testing.assert_close(times, scheduler.timesteps.cpu().float(), rtol=1e-3, atol=0.1)


def test_one_step_begins_in_noise() -> None:
    assert SIGMAS.even(1) == pytest.approx([SIGMAS.at(999), 0]) and SIGMAS.karras(1) == pytest.approx(SIGMAS.even(1))


@pytest.mark.parametrize("timestep", [0.0, 0.25, 500.5, 998.75, 999.0])
def test_timesteps_there_and_back(timestep: float) -> None:
    assert SIGMAS.timestep(SIGMAS.at(timestep)) == pytest.approx(timestep, abs=1e-6)
    assert SIGMAS.timestep(1e-4) == 0 and SIGMAS.timestep(1e4) == 999


def test_a_schedule_that_ends_in_noise_has_an_end() -> None:
    table = Sigmas(scaled_linear(*BETAS).to_zero_snr())
    assert table.even(5)[0] == pytest.approx(2**12, rel=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_every_answer_is_understood(prediction_type: str) -> None:
    schedule = scaled_linear(*BETAS)
    clean, noise = torch.randn(2, 2, 4, 3, 3).double()
    asked = []

    def answer(noisy: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        asked.append(timestep)
        torch.testing.assert_close(noisy.float(), schedule.add_noise(clean, noise, steps).float())
        return schedule.target(clean, noise, steps, prediction_type)

    steps = torch.tensor([600, 600])
    sigma = SIGMAS.at(600)
    found = Denoiser(answer, SIGMAS, prediction_type)(clean + sigma * noise, sigma)
    torch.testing.assert_close(found, clean, rtol=1e-4, atol=1e-4, check_dtype=False)
    assert float(asked[0]) == pytest.approx(600, abs=1e-3) and asked[0].shape == ()
