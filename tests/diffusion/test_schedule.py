"""The noise schedule against diffusers' scheduler and against its own definitions."""

import pytest
import torch
from diffusers import DDPMScheduler

from library.diffusion.schedule import PREDICTION_TYPES, Schedule, scaled_linear
from library.errors import InputError

SD1 = (0.00085, 0.012, 1000)


@pytest.fixture(scope="module")
def reference() -> DDPMScheduler:
    """diffusers' scheduler with Stable Diffusion's numbers."""
    return DDPMScheduler(beta_start=SD1[0], beta_end=SD1[1], num_train_timesteps=SD1[2], beta_schedule="scaled_linear")


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, noise and timesteps, the schedule's two ends among them."""
    generator = torch.Generator().manual_seed(0)
    timesteps = torch.tensor([0, 1, 500, 998, 999])
    latents, noise = torch.randn(2, len(timesteps), 4, 3, 5, generator=generator)
    return latents, noise, timesteps


def test_the_table_is_that_of_diffusers(reference: DDPMScheduler) -> None:
    schedule = scaled_linear(*SD1)
    assert schedule.steps == 1000
    torch.testing.assert_close(schedule.alphas_cumprod, reference.alphas_cumprod, rtol=2e-5, atol=1e-7)


def test_add_noise_is_that_of_diffusers(reference: DDPMScheduler, batch) -> None:
    ours = scaled_linear(*SD1).add_noise(*batch)
    torch.testing.assert_close(ours, reference.add_noise(*batch), rtol=1e-5, atol=1e-5)


def test_the_v_target_is_that_of_diffusers(reference: DDPMScheduler, batch) -> None:
    latents, noise, timesteps = batch
    ours = scaled_linear(*SD1).target(latents, noise, timesteps, "v_prediction")
    torch.testing.assert_close(ours, reference.get_velocity(latents, noise, timesteps), rtol=1e-5, atol=1e-5)


def test_every_target_leads_back_to_the_latents(batch) -> None:
    latents, noise, timesteps = batch
    schedule = scaled_linear(*SD1)
    signal = schedule.alphas_cumprod[timesteps].double().sqrt().reshape(-1, 1, 1, 1)
    spread = (1 - signal**2).sqrt()
    noisy = schedule.add_noise(latents, noise, timesteps).double()
    targets = {name: schedule.target(latents, noise, timesteps, name).double() for name in PREDICTION_TYPES}
    found = {
        "epsilon": (noisy - spread * targets["epsilon"]) / signal,
        "v_prediction": signal * noisy - spread * targets["v_prediction"],
        "sample": targets["sample"],
    }
    for name, back in found.items():
        torch.testing.assert_close(back, latents.double(), rtol=1e-4, atol=1e-4, msg=name)


def test_snr_is_the_ratio_of_the_variances() -> None:
    schedule = scaled_linear(*SD1)
    timesteps = torch.tensor([0, 100, 999])
    left = schedule.alphas_cumprod[timesteps].double()
    torch.testing.assert_close(schedule.snr(timesteps).double(), left / (1 - left), rtol=1e-4, atol=0)


def test_half_precision_latents_are_noised_in_float32() -> None:
    latents = torch.ones(2, 4, 2, 2, dtype=torch.bfloat16)
    noise = torch.zeros(2, 4, 2, 2)
    noisy = scaled_linear(*SD1).add_noise(latents, noise, torch.tensor([10, 11]))
    assert noisy.dtype == torch.float32
    assert noisy[0, 0, 0, 0] != noisy[1, 0, 0, 0]


def test_a_moved_schedule_is_the_same(batch) -> None:
    schedule = scaled_linear(*SD1)
    moved = schedule.to("cpu")
    assert isinstance(moved, Schedule)
    torch.testing.assert_close(moved.add_noise(*batch), schedule.add_noise(*batch), rtol=0, atol=0)
    torch.testing.assert_close(moved.snr(batch[2]), schedule.snr(batch[2]), rtol=0, atol=0)


def test_an_unknown_prediction_type_is_refused(batch) -> None:
    with pytest.raises(InputError, match="flow.*epsilon, v_prediction, sample"):
        scaled_linear(*SD1).target(*batch, "flow")
