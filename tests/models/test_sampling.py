"""Samplers: every one reaches what a perfect model knows, from noise and from a picture, as diffusers' own."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from library.diffusion.schedule import scaled_linear
from library.errors import InputError
from library.lookup import SAMPLERS
from library.models import sampling
from library.models.sampling import Beginning, Noise, make_scheduler, sample
from library.samplers import NAMES, split_name

# The schedulers of diffusers hand tensors to numpy in a way that numpy means to end.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CLEAN = 0.3  # the value of every latent of the world in which a perfect model is known
SHAPE = (4, 2, 2)
OF_DIFFUSERS = [name for name in NAMES if SAMPLERS[split_name(name)[0]].startswith("diffusers:")]


def made_for(prediction_type: str) -> Any:
    """As much of a family as a scheduler needs."""
    return SimpleNamespace(betas=(0.00085, 0.012, 1000), prediction_type=prediction_type, zero_terminal_snr=False)


class Perfect:
    """What a perfect model answers in a world where every latent is CLEAN; timesteps may lie between two.

    `noises` are those that it saw in its latents.
    """

    def __init__(self, prediction_type: str = "epsilon") -> None:
        self.prediction_type, self.noises = prediction_type, []
        self.signals = scaled_linear(0.00085, 0.012, 1000).alphas_cumprod.sqrt().numpy()

    def __call__(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        signal = float(np.interp(float(timestep), np.arange(1000), self.signals))
        spread = (1 - signal**2) ** 0.5
        noise = (noisy - signal * CLEAN) / spread
        self.noises.append(noise)
        if self.prediction_type == "epsilon":
            return noise
        is_clean = self.prediction_type == "sample"
        return torch.full_like(noisy, CLEAN) if is_clean else signal * noise - spread * CLEAN


def noise_of(*seeds: int) -> Noise:
    return Noise.of_seeds(seeds, SHAPE, torch.device("cpu"))


def assert_clean(latents: Tensor) -> None:
    torch.testing.assert_close(latents, torch.full_like(latents, CLEAN), atol=0.12, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 3, 25])
@pytest.mark.parametrize("sampler", NAMES)
def test_every_sampler_reaches_the_clean_latents(sampler: str, steps: int) -> None:
    assert_clean(sample(made_for("epsilon"), sampler, steps, Perfect(), noise_of(0)))


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("sampler", NAMES)
def test_every_sampler_knows_what_the_model_predicts(sampler: str, prediction_type: str) -> None:
    if prediction_type == "sample" and split_name(sampler)[0] not in sampling.FOR_SAMPLE_PREDICTION:
        with pytest.raises(InputError, match="does not fit a model that predicts samples; use ddim, "):
            sample(made_for(prediction_type), sampler, 12, Perfect(prediction_type), noise_of(0))
        return
    assert_clean(sample(made_for(prediction_type), sampler, 12, Perfect(prediction_type), noise_of(0)))


@pytest.mark.parametrize("strength", [0.04, 0.5, 1.0])
@pytest.mark.parametrize("sampler", NAMES)
def test_every_sampler_begins_with_a_picture(sampler: str, strength: float) -> None:
    """At the timestep that its noise belongs to: the model sees the noise that was drawn."""
    model, whole = Perfect(), Perfect()
    begun = Beginning(torch.full((1, *SHAPE), CLEAN), strength)
    assert_clean(sample(made_for("epsilon"), sampler, 12, model, noise_of(0), begun))
    torch.testing.assert_close(model.noises[0], noise_of(0).draw(), atol=0.03, rtol=0.03)
    sample(made_for("epsilon"), sampler, 12, whole, noise_of(0))
    if "adaptive" not in sampler:  # its steps are as many as the error needs
        assert (len(model.noises) < len(whole.noises)) == (strength < 1)


@pytest.mark.parametrize(("steps", "strength", "done"), [(30, 0.6, 18), (30, 1.0, 30), (25, 0.01, 1), (7, 0.5, 3)])
def test_how_many_steps_a_strength_means(steps: int, strength: float, done: int) -> None:
    assert steps - Beginning(torch.zeros(1), strength).skipped(steps) == done


@pytest.mark.parametrize("sampler", [name for name in NAMES if "adaptive" not in name])
def test_a_batch_is_its_pictures(sampler: str) -> None:
    together = sample(made_for("epsilon"), sampler, 5, Perfect(), noise_of(3, 4))
    for number, seed in enumerate((3, 4)):
        alone = sample(made_for("epsilon"), sampler, 5, Perfect(), noise_of(seed))
        torch.testing.assert_close(together[number : number + 1], alone)


@pytest.mark.parametrize("steps", [1, 7, 99, 350, 1000])
@pytest.mark.parametrize("sampler", OF_DIFFUSERS)
def test_every_number_of_steps_begins_in_noise(sampler: str, steps: int) -> None:
    scheduler = make_scheduler(made_for("epsilon"), sampler, steps)
    scheduler.set_timesteps(steps)
    assert 750 <= scheduler.timesteps[0] < 1000
    assert scheduler.timesteps.min() >= 0


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown sampler 'eulr'; allowed: ddim, "):
        make_scheduler(made_for("epsilon"), "eulr", 20)


def test_karras_steps_are_not_the_even_ones() -> None:
    for name in NAMES:
        if name.endswith("_karras"):
            karras, even = Perfect(), Perfect()
            for sampler, model in ((name, karras), (split_name(name)[0], even)):
                drawn = sample(made_for("epsilon"), sampler, 6, lambda x, t, m=model: 0.5 * m(x, t), noise_of(1))
                model.noises = [drawn]
            assert not torch.allclose(karras.noises[0], even.noises[0], atol=1e-4), name


@pytest.mark.parametrize("sampler", OF_DIFFUSERS)
def test_previews_of_models_whose_schedule_ends_in_noise(sampler: str) -> None:
    """Every sampler draws by the schedule that training uses, from its last timestep on."""
    family = SimpleNamespace(betas=(0.00085, 0.012, 1000), prediction_type="v_prediction", zero_terminal_snr=True)
    scheduler = make_scheduler(family, sampler, 20)
    expected = scaled_linear(*family.betas).to_zero_snr().alphas_cumprod
    torch.testing.assert_close(scheduler.alphas_cumprod[:999], expected[:999], rtol=1e-3, atol=1e-6)
    assert scheduler.alphas_cumprod[999] < 1e-6
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999
    assert torch.isfinite(torch.as_tensor(scheduler.init_noise_sigma))


@pytest.mark.parametrize("sampler", ["dpm_fast", "dpm_adaptive", "dpm++_sde", "dpm++_2s_a_karras"])
def test_our_own_begin_in_noise_where_the_schedule_does(sampler: str) -> None:
    family: Any = SimpleNamespace(betas=(0.00085, 0.012, 1000), prediction_type="v_prediction", zero_terminal_snr=True)
    model = Perfect("v_prediction")
    model.signals = scaled_linear(*family.betas).to_zero_snr().alphas_cumprod.clamp(min=2.0**-24).sqrt().numpy()
    drawn = sample(family, sampler, 20, model, noise_of(0))
    assert_clean(drawn)


@pytest.mark.parametrize("sampler", NAMES)
def test_each_prediction_knows_its_step(sampler: str) -> None:
    """All steps in their order, each as often as the method looks; a picture to begin with is drawn from step 0 too."""
    told: list[int] = []
    sample(made_for("epsilon"), sampler, 12, Perfect(), noise_of(0), None, told.append)
    assert told == sorted(told) and set(told) <= set(range(12)) and told[0] == 0
    if "adaptive" not in sampler and "fast" not in sampler:
        counts = [told.count(step) for step in range(12)]
        assert set(counts[1:-1]) <= {1, 2} and len(set(counts[1:-1])) == 1, counts
        begun: list[int] = []
        beginning = Beginning(torch.zeros_like(noise_of(0).draw()), 0.5)
        sample(made_for("epsilon"), sampler, 12, Perfect(), noise_of(0), beginning, begun.append)
        assert set(begun) == set(range(6)), begun
