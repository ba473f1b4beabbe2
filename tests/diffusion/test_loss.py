"""The loss and its weights against diffusers' formula, sd-scripts' formulas and the papers' meanings."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st

from library.diffusion.loss import (
    Measure,
    Weighting,
    debiased_weight,
    huber_threshold,
    min_snr_weight,
    noise_like_weight,
    per_sample_loss,
    pointwise_error,
    soft_min_snr_weight,
    v_like_weight,
)
from library.diffusion.schedule import scaled_linear
from library.errors import InputError

SD1 = (0.00085, 0.012, 1000)
TIMESTEPS = torch.tensor([0, 200, 500, 900])


def wrong_latents(prediction_type: str) -> torch.Tensor:
    """How wrong latents are that are recovered from a prediction wrong by 1, at each of TIMESTEPS."""
    signal = scaled_linear(*SD1).alphas_cumprod[TIMESTEPS].double().sqrt()
    spread = (1 - signal**2).sqrt()
    return {"epsilon": spread / signal, "v_prediction": spread, "sample": torch.ones_like(signal)}[prediction_type]


def snr_of(timesteps: torch.Tensor = TIMESTEPS) -> torch.Tensor:
    """Stable Diffusion's signal-to-noise ratios."""
    return scaled_linear(*SD1).snr(timesteps).double()


def test_the_loss_is_the_mean_square_of_each_sample() -> None:
    prediction = torch.zeros(2, 4, 2, 2)
    target = torch.stack([torch.full((4, 2, 2), 2.0), torch.full((4, 2, 2), 3.0)])
    assert per_sample_loss(prediction, target).tolist() == [4.0, 9.0]
    assert per_sample_loss(prediction, target, kind="l1").tolist() == [2.0, 3.0]


@pytest.mark.parametrize("kind", ["l2", "l1", "huber", "smooth_l1"])
def test_a_mask_is_multiplied_before_the_mean(kind: str) -> None:
    """As in sd-scripts: a picture of which a quarter counts has a quarter of the loss."""
    prediction, target = torch.zeros(2, 4, 2, 2), torch.full((2, 4, 2, 2), 2.0)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.5, 0.5], [1.0, 0.0]]]])
    bounds = torch.tensor([0.1, 0.3])
    plain = per_sample_loss(prediction, target, kind=kind, thresholds=bounds)
    masked = per_sample_loss(prediction, target, mask, kind, bounds)
    torch.testing.assert_close(masked, plain * torch.tensor([0.25, 0.5]))
    assert torch.equal(per_sample_loss(prediction, target, torch.ones(2, 1, 2, 2), kind, bounds), plain)
    if kind == "l2":
        assert plain.tolist() == [4.0, 4.0]


def test_half_precision_is_compared_in_float32() -> None:
    prediction = torch.full((1, 4, 8, 8), 300.0, dtype=torch.float16)
    loss = per_sample_loss(prediction, torch.zeros(1, 4, 8, 8))
    assert loss.dtype == torch.float32
    assert loss.item() == 90000.0


@given(st.floats(-50, 50), st.floats(0.001, 2))
def test_the_pseudo_huber_losses_are_sd_scripts(difference: float, c: float) -> None:
    """2 c (sqrt(d^2 + c^2) - c) and the same without c, computed in double precision."""
    root = math.sqrt(difference**2 + c**2) - c
    one, bound = torch.tensor([[difference]]), torch.tensor([c])
    assert pointwise_error(one, "huber", bound).item() == pytest.approx(2 * c * root, rel=1e-4, abs=1e-9)
    assert pointwise_error(one, "smooth_l1", bound).item() == pytest.approx(2 * root, rel=1e-4, abs=1e-9)


def test_the_pseudo_huber_loss_is_a_square_near_zero_and_a_line_far_away() -> None:
    bound = torch.tensor([0.1])
    small, large = torch.tensor([[1e-3]]), torch.tensor([[1e3]])
    assert pointwise_error(small, "huber", bound).item() == pytest.approx(1e-6, rel=1e-3)
    assert pointwise_error(large, "huber", bound).item() == pytest.approx(2 * 0.1 * 1e3, rel=1e-3)
    assert pointwise_error(small, "smooth_l1", bound).item() == pytest.approx(1e-5, rel=1e-3)
    slopes = torch.tensor([[0.0, 1e-4, 3.0]], requires_grad=True)
    pointwise_error(slopes, "huber", bound).sum().backward()
    assert slopes.grad is not None and slopes.grad.isfinite().all()
    assert slopes.grad[0].tolist() == pytest.approx([0, 2e-4, 0.2], rel=1e-2)


def test_thresholds_belong_to_their_samples() -> None:
    difference = torch.ones(2, 4, 2, 2)
    found = pointwise_error(difference, "huber", torch.tensor([0.1, 0.5]))
    alone = [pointwise_error(difference[:1], "huber", torch.tensor([each])) for each in (0.1, 0.5)]
    assert torch.equal(found, torch.cat(alone)) and found[0].max() < found[1].min()
    with pytest.raises(ValueError, match="thresholds"):
        pointwise_error(difference, "huber")
    with pytest.raises(ValueError, match="l3"):
        pointwise_error(difference, "l3")


def test_the_courses_of_the_threshold_are_sd_scripts() -> None:
    timesteps, c, scale = torch.tensor([0, 250, 500, 999]), 0.1, 1.5
    parts, snr = timesteps / 1000, snr_of(torch.tensor([0, 250, 500, 999]))
    alpha = -math.log(c) / 1000
    expected = [math.exp(-alpha * t) * scale for t in timesteps.tolist()]
    assert huber_threshold("exponential", parts, snr, c, scale).tolist() == pytest.approx(expected)
    assert huber_threshold("constant", parts, snr, c, scale).tolist() == pytest.approx([0.15] * 4)
    left = scaled_linear(*SD1).alphas_cumprod[timesteps].double()
    sigmas = ((1 - left) / left) ** 0.5
    expected = (1 - c) / (1 + sigmas) ** 2 + c
    torch.testing.assert_close(huber_threshold("snr", parts, snr, c, scale), expected, rtol=1e-5, atol=0)
    assert huber_threshold("snr", parts[:1], torch.zeros(1), c, 1).item() == pytest.approx(c)  # pure noise
    with pytest.raises(ValueError, match="linear"):
        huber_threshold("linear", parts, snr, c, scale)


def test_a_measure_asks_its_own_schedule() -> None:
    timesteps, snr = torch.tensor([0, 500]), snr_of(torch.tensor([0, 500])).float()
    found = Measure("huber", "exponential", 0.2, 3).thresholds(timesteps, snr, 1000)
    assert found.tolist() == pytest.approx([3, 3 * 0.2**0.5])
    kinds = {kind: Measure(kind).has_threshold for kind in ("l2", "l1", "huber", "smooth_l1")}
    assert kinds == {"l2": False, "l1": False, "huber": True, "smooth_l1": True}


def test_the_epsilon_weight_is_that_of_diffusers_scripts() -> None:
    scheduler = DDPMScheduler(beta_start=SD1[0], beta_end=SD1[1], beta_schedule="scaled_linear")
    timesteps = torch.arange(0, 1000, 37)
    snr = compute_snr(scheduler, timesteps)
    expected = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0] / snr
    ours = min_snr_weight(scaled_linear(*SD1).snr(timesteps), 5.0, "epsilon")
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_the_weights_mean_the_same_error_in_the_latents(prediction_type: str) -> None:
    """Weight times the model's own error = min(snr, gamma) times the error in x_0, for one prediction; soft alike."""
    wrong, snr = wrong_latents(prediction_type), snr_of()
    hard, soft = (each(snr, 5.0, prediction_type) for each in (min_snr_weight, soft_min_snr_weight))
    torch.testing.assert_close(hard, snr.clamp(max=5.0) * wrong**2, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(soft, wrong**2 / (1 / snr + 1 / 5), rtol=1e-4, atol=1e-6)
    assert (soft <= hard + 1e-9).all() and (soft >= hard / 2 - 1e-9).all()


def test_the_debiased_weights_are_sd_scripts() -> None:
    snr, wrong = snr_of(), wrong_latents("epsilon")
    capped = snr.clamp(max=1000)
    assert snr[0] > 1000  # the cap is tried too
    torch.testing.assert_close(debiased_weight(snr, "epsilon"), capped**-0.5)
    torch.testing.assert_close(debiased_weight(snr, "v_prediction"), 1 / (capped + 1))
    # One answer, whether it is told as noise or as latents; and errors in x_0 all alike where it is told as v.
    inner = slice(1, None)
    as_sample = debiased_weight(snr, "sample")[inner] * wrong[inner] ** 2
    torch.testing.assert_close(as_sample, debiased_weight(snr, "epsilon")[inner], rtol=1e-4, atol=1e-6)
    as_v = debiased_weight(snr, "v_prediction")[inner] / wrong_latents("v_prediction")[inner] ** 2
    torch.testing.assert_close(as_v, torch.ones(3, dtype=torch.float64), rtol=1e-4, atol=1e-6)


def test_errors_in_v_and_in_noise_are_changed_into_each_other() -> None:
    """An answer wrong by 1 in v is wrong by sqrt(a_t) in noise; a_t = SNR / (SNR + 1)."""
    timesteps = TIMESTEPS[1:]
    left = scaled_linear(*SD1).alphas_cumprod[timesteps].double()
    torch.testing.assert_close(noise_like_weight(snr_of(timesteps)), left, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(v_like_weight(snr_of(timesteps), 0.5), 1 + 0.5 / left, rtol=1e-4, atol=1e-6)


def test_weightings_are_products() -> None:
    snr = snr_of().float()
    assert Weighting().is_even and torch.equal(Weighting().of(snr, "epsilon"), torch.ones(4))
    both = Weighting(min_snr_gamma=5, debiased=True)
    expected = min_snr_weight(snr, 5, "epsilon") * debiased_weight(snr, "epsilon")
    assert not both.is_even and torch.equal(both.of(snr, "epsilon"), expected)
    assert torch.equal(Weighting(5, soft=True).of(snr, "epsilon"), soft_min_snr_weight(snr, 5, "epsilon"))
    assert torch.equal(Weighting(scale_v_like_noise=True).of(snr, "v_prediction"), noise_like_weight(snr))
    assert torch.equal(Weighting(v_like=0.1).of(snr, "epsilon"), v_like_weight(snr, 0.1))


def test_pure_noise_has_a_finite_weight() -> None:
    zero = torch.zeros(1)
    for weight, for_epsilon in ((min_snr_weight, 1.0), (soft_min_snr_weight, 1.0)):
        assert weight(zero, 5.0, "epsilon").item() == for_epsilon
        assert weight(zero, 5.0, "v_prediction").item() == 0.0
    assert debiased_weight(zero, "v_prediction").item() == 1.0 and noise_like_weight(zero).item() == 0.0


@pytest.mark.parametrize(
    "weight",
    [lambda s: min_snr_weight(s, 5, "flow"), lambda s: soft_min_snr_weight(s, 5, "flow")]
    + [lambda s: debiased_weight(s, "flow")],
)
def test_an_unknown_prediction_type_is_refused(weight) -> None:
    with pytest.raises(InputError, match="flow"):
        weight(torch.ones(1))
