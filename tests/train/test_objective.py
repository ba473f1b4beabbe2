"""What a run asks of its model: the family's schedule, and each setting where it belongs."""

import pytest
import torch

from library.diffusion.loss import Measure, Weighting
from library.diffusion.noise import Noise
from library.diffusion.schedule import scaled_linear
from library.diffusion.timesteps import draw_timesteps, logit_normal_timesteps
from library.errors import InputError
from library.seeds import derive_seed
from library.train.objective import check_prediction, make_objective, plain_objective

SEEDS = [derive_seed(1, "timestep", number) for number in range(4000)]
PLACES = {Noise: "noise", Weighting: "weighting", Measure: "measure"}


@pytest.fixture
def made(settings_of, family, compute):
    """The objective of some settings."""
    return lambda **changes: make_objective(settings_of(**changes), family, compute)


def test_the_plain_one(made) -> None:
    plain = made()
    assert (plain.prediction_type, plain.schedule.steps) == ("epsilon", 1000)
    assert (plain.noise, plain.measure, plain.weighting) == (Noise(), Measure(), Weighting())
    assert plain.draw(SEEDS).tolist() == draw_timesteps(SEEDS, 0, 1000).tolist() and plain.even_weight is None
    torch.testing.assert_close(plain.schedule.alphas_cumprod, scaled_linear(0.00085, 0.012, 1000).alphas_cumprod)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"noise_offset": 0.1}, Noise(offset=0.1)),
        ({"noise_offset": 0.1, "noise_offset_random_strength": True}, Noise(offset=0.1, offset_varies=True)),
        ({"noise_offset": 0.1, "adaptive_noise_scale": -0.2}, Noise(offset=0.1, adaptive=-0.2)),
        ({"multires_noise_iterations": 6, "multires_noise_discount": 0.2}, Noise(levels=6, discount=0.2)),
        ({"ip_noise_gamma": 0.1}, Noise(perturbation=0.1)),
        (
            {"ip_noise_gamma": 0.1, "ip_noise_gamma_random_strength": True},
            Noise(perturbation=0.1, perturbation_varies=True),
        ),
        ({"min_snr_gamma": 5}, Weighting(min_snr_gamma=5)),
        ({"min_snr_gamma": 5, "soft_min_snr": True}, Weighting(min_snr_gamma=5, soft=True)),
        ({"debiased_estimation_loss": True}, Weighting(debiased=True)),
        ({"v_pred_like_loss": 0.1}, Weighting(v_like=0.1)),
        ({"loss_type": "l1"}, Measure("l1")),
        (
            {"loss_type": "smooth_l1", "huber_schedule": "constant", "huber_c": 0.2, "huber_scale": 2},
            Measure("smooth_l1", "constant", 0.2, 2.0),
        ),
    ],
)
def test_each_setting_is_where_it_belongs(made, changes: dict, expected) -> None:
    found, plain = made(**changes), made()
    for kind, place in PLACES.items():
        wanted = expected if isinstance(expected, kind) else getattr(plain, place)
        assert getattr(found, place) == wanted


def test_timesteps(made) -> None:
    assert made(min_timestep=3, max_timestep=9).draw(SEEDS).unique().tolist() == [3, 4, 5, 6, 7, 8]
    found = made(timestep_sampling="logit_normal", logit_mean=1, logit_std=0.5, min_timestep=100, max_timestep=200)
    assert torch.equal(found.draw(SEEDS), logit_normal_timesteps(SEEDS, 100, 200, 1, 0.5))


def test_importance(made) -> None:
    """Drawn in proportion to the weights of the range, with their mean as the weight of each."""
    found = made(timestep_sampling="importance", min_snr_gamma=5, min_timestep=100, max_timestep=500)
    weights = (5 / scaled_linear(0.00085, 0.012, 1000).snr(torch.arange(100, 500))).clamp(max=1)
    assert found.even_weight == pytest.approx(weights.mean().item())
    drawn = found.draw(SEEDS)
    assert drawn.min() >= 100 and drawn.max() < 500
    low, expected = (drawn < 200).float().mean().item(), (weights[:100].sum() / weights.sum()).item()
    assert low == pytest.approx(expected, abs=0.02) and expected < 0.24  # of the range it is a quarter


def test_weights_come_from_the_schedule_that_ends_in_noise(settings_of, family, compute) -> None:
    family.prediction_type, family.zero_terminal_snr = "v_prediction", True
    settings = settings_of(min_snr_gamma=5, scale_v_pred_loss_like_noise_pred=True)
    found = make_objective(settings, family, compute)
    snr = found.schedule.snr(torch.tensor([999]))
    assert snr.item() == 0 and found.weighting.of(snr, "v_prediction").item() == 0
    drawn = make_objective(settings_of(min_snr_gamma=5, timestep_sampling="importance"), family, compute).draw(SEEDS)
    assert drawn.max() < 999


def test_losses_of_other_models_are_refused(settings_of, family) -> None:
    scaled, like = settings_of(scale_v_pred_loss_like_noise_pred=True), settings_of(v_pred_like_loss=0.1)
    with pytest.raises(InputError, match="scale_v_pred_loss_like_noise_pred is for models that predict v, and .*eps"):
        check_prediction(scaled, family)
    check_prediction(like, family)
    family.prediction_type = "v_prediction"
    check_prediction(scaled, family)
    with pytest.raises(InputError, match="v_pred_like_loss is for models that predict noise"):
        check_prediction(like, family)


def test_what_runs_are_compared_by(made) -> None:
    noise = {"noise_offset": 0.1, "ip_noise_gamma": 0.1, "multires_noise_iterations": 3}
    full = made(**noise, min_snr_gamma=5, loss_type="huber", timestep_sampling="importance")
    plain = plain_objective(full)
    assert plain.schedule is full.schedule and plain.noise == Noise(offset=0.1)
    assert (plain.measure, plain.weighting, plain.even_weight) == (Measure(), Weighting(), None)
