"""The defaults of loss, noise and timesteps, which are sd-scripts', and what 0 means."""

import pytest

from library.settings.loss_fields import LossFields, NoiseFields

ZERO_IS_UNSET = (
    "v_pred_like_loss",
    "adaptive_noise_scale",
    "multires_noise_iterations",
    "ip_noise_gamma",
    "min_snr_gamma",
)


def test_defaults() -> None:
    loss, noise = LossFields(), NoiseFields()
    assert (loss.loss_type, loss.huber_schedule, loss.huber_c, loss.huber_scale) == ("l2", "snr", 0.1, 1.0)
    assert (loss.min_snr_gamma, loss.v_pred_like_loss, loss.prior_loss_weight) == (None, None, 1.0)
    assert not (loss.soft_min_snr or loss.debiased_estimation_loss or loss.scale_v_pred_loss_like_noise_pred)
    assert (noise.noise_offset, noise.multires_noise_iterations, noise.multires_noise_discount) == (0.0, None, 0.3)
    assert (noise.adaptive_noise_scale, noise.ip_noise_gamma, noise.timestep_sampling) == (None, None, "uniform")
    assert (noise.min_timestep, noise.max_timestep) == (None, None)


@pytest.mark.parametrize("name", ZERO_IS_UNSET)
def test_zero_means_unset(read, name: str) -> None:
    assert getattr(read(toml=f"{name} = 0"), name) is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--loss_type l3", "loss_type must be l2, l1, huber or smooth_l1, not 'l3'"),
        ("--huber_schedule linear", "huber_schedule must be snr, exponential or constant, not 'linear'"),
        ("--huber_c 0", "huber_c must be at least 1e-06, not 0.0."),
        ("--multires_noise_discount 2", "multires_noise_discount must be between 0 and 1, not 2.0."),
        ("--ip_noise_gamma -1", "ip_noise_gamma must be at least 0, not -1.0."),
        ("--timestep_sampling sigmoid", "timestep_sampling must be uniform, logit_normal or importance"),
    ],
)
def test_mistakes(complaints, line: str, sentence: str) -> None:
    (told,) = complaints(*line.split())
    assert sentence in told
