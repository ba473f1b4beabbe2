"""The loss and its weights against diffusers' formula and against the paper's meaning."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from library.diffusion.loss import min_snr_weight, per_sample_loss
from library.diffusion.schedule import scaled_linear
from library.errors import InputError

SD1 = (0.00085, 0.012, 1000)


def test_the_loss_is_the_mean_square_of_each_sample() -> None:
    prediction = torch.zeros(2, 4, 2, 2)
    target = torch.stack([torch.full((4, 2, 2), 2.0), torch.full((4, 2, 2), 3.0)])
    assert per_sample_loss(prediction, target).tolist() == [4.0, 9.0]


def test_a_mask_is_multiplied_before_the_mean() -> None:
    """As in sd-scripts: a picture of which a quarter counts has a quarter of the loss."""
    prediction, target = torch.zeros(2, 4, 2, 2), torch.full((2, 4, 2, 2), 2.0)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.5, 0.5], [1.0, 0.0]]]])
    assert per_sample_loss(prediction, target, mask).tolist() == [1.0, 2.0]
    assert per_sample_loss(prediction, target, torch.ones(2, 1, 2, 2)).tolist() == [4.0, 4.0]
    noise = torch.randn(3, 4, 8, 8)
    assert torch.equal(per_sample_loss(noise, noise * 0, torch.ones(3, 1, 8, 8)), per_sample_loss(noise, noise * 0))


def test_half_precision_is_compared_in_float32() -> None:
    prediction = torch.full((1, 4, 8, 8), 300.0, dtype=torch.float16)
    loss = per_sample_loss(prediction, torch.zeros(1, 4, 8, 8))
    assert loss.dtype == torch.float32
    assert loss.item() == 90000.0


def test_the_epsilon_weight_is_that_of_diffusers_scripts() -> None:
    scheduler = DDPMScheduler(beta_start=SD1[0], beta_end=SD1[1], beta_schedule="scaled_linear")
    timesteps = torch.arange(0, 1000, 37)
    snr = compute_snr(scheduler, timesteps)
    expected = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0] / snr
    ours = min_snr_weight(scaled_linear(*SD1).snr(timesteps), 5.0, "epsilon")
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_the_weights_mean_the_same_error_in_the_latents(prediction_type: str) -> None:
    """Weight times the model's own error = min(snr, gamma) times the error in x_0, for one prediction."""
    schedule = scaled_linear(*SD1)
    timesteps = torch.tensor([0, 200, 500, 900])
    signal = schedule.alphas_cumprod[timesteps].double().sqrt()
    spread = (1 - signal**2).sqrt()
    # A prediction that is wrong by 1: the latents recovered from it are wrong by this much.
    wrong = spread / signal if prediction_type == "epsilon" else spread
    snr = schedule.snr(timesteps).double()
    weight = min_snr_weight(snr, 5.0, prediction_type)
    torch.testing.assert_close(weight, snr.clamp(max=5.0) * wrong**2, rtol=1e-4, atol=1e-6)


def test_the_sample_weight_is_the_capped_snr() -> None:
    assert min_snr_weight(torch.tensor([0.5, 50.0]), 5.0, "sample").tolist() == [0.5, 5.0]


def test_pure_noise_has_a_finite_weight() -> None:
    zero = torch.zeros(1)
    assert min_snr_weight(zero, 5.0, "epsilon").item() == 1.0
    assert min_snr_weight(zero, 5.0, "v_prediction").item() == 0.0


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(InputError, match="flow"):
        min_snr_weight(torch.ones(1), 5.0, "flow")
