"""Drawing: the same pictures as diffusers, by every sampler, without a trace on the models."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from library import lookup
from library.diffusion.schedule import scaled_linear
from library.errors import InputError
from library.models import drawing
from library.models.drawing import Painter, make_scheduler, to_picture
from library.models.family import open_family
from library.models.prompts import Prompt
from tests.toys import write_overflowing_sd1, write_toy_sd1

# The schedulers of diffusers hand tensors to numpy in a way that numpy means to end.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PROMPT = Prompt("a red dog", "blurry", width=64, height=64, seed=7, steps=6, guidance=5.0)
CLEAN = 0.3  # the value of every latent of the world in which a perfect model is known


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_sd1(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def painter(folder: Path) -> Painter:
    family = open_family(str(folder))
    dtype = torch.float32
    return Painter(family, family.load_vae(dtype), family.load_text_encoders(dtype), family.load_unet(dtype))


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def random_state() -> Iterator[None]:
    """Fails a test that moves torch's own random state."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state())


def test_a_vae_that_overflows_in_half_precision_goes_on_in_float32(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = open_family(str(write_overflowing_sd1(tmp_path / "wild")))
    encoders, unet = family.load_text_encoders(torch.float32), family.load_unet(torch.float32)
    whole, half = (
        Painter(family, family.load_vae(dtype), encoders, unet) for dtype in (torch.float32, torch.float16)
    )
    expected = shades(whole.draw(PROMPT))
    assert abs(shades(half.draw(PROMPT)) - expected).max() <= 3
    assert next(half.vae.parameters()).dtype == torch.float32
    half.draw(PROMPT)
    assert capsys.readouterr().err.count("the VAE overflows in half precision") == 1


def shades(picture: Image.Image) -> np.ndarray:
    """The picture's values, (height, width, 3), as whole numbers that can be subtracted."""
    return np.asarray(picture).astype(int)


def pipeline_picture(pipeline: Any, prompt: Prompt, **options: Any) -> np.ndarray:
    """What diffusers draws, (height, width, 3)."""
    [picture] = pipeline(
        prompt.text,
        negative_prompt=prompt.negative,
        width=prompt.width,
        height=prompt.height,
        num_inference_steps=prompt.steps,
        guidance_scale=prompt.guidance,
        generator=torch.Generator().manual_seed(prompt.seed),
        **options,
    ).images
    return shades(picture)


def made_for(prediction_type: str) -> Any:
    """As much of a family as a scheduler needs."""
    return SimpleNamespace(betas=(0.00085, 0.012, 1000), prediction_type=prediction_type, zero_terminal_snr=False)


def perfect_answer(
    prediction_type: str, scheduler: Any, noisy: torch.Tensor, timestep: float
) -> torch.Tensor:
    """What a perfect model answers in a world where every latent is CLEAN; timesteps may lie between two."""
    signal = float(np.interp(timestep, np.arange(1000), scheduler.alphas_cumprod.sqrt().numpy()))
    spread = (1 - signal**2) ** 0.5
    noise = (noisy - signal * CLEAN) / spread
    if prediction_type == "epsilon":
        return noise
    return torch.full_like(noisy, CLEAN) if prediction_type == "sample" else signal * noise - spread * CLEAN


def drawn_by_perfect_model(sampler: str, prediction_type: str, steps: int) -> torch.Tensor:
    """The latents that a sampler ends at with a perfect model."""
    scheduler = make_scheduler(made_for(prediction_type), sampler, steps)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    noise = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    latents = torch.randn((1, 4, 2, 2), generator=generator) * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latents, timestep)
        answer = perfect_answer(prediction_type, scheduler, noisy, float(timestep))
        latents = scheduler.step(answer, timestep, latents, **noise, return_dict=False)[0]
    return latents


@pytest.mark.parametrize("steps", [1, 2, 3, 25])
@pytest.mark.parametrize("sampler", lookup.SAMPLERS)
def test_every_sampler_reaches_the_clean_latents(sampler: str, steps: int) -> None:
    latents = drawn_by_perfect_model(sampler, "epsilon", steps)
    torch.testing.assert_close(latents, torch.full_like(latents, CLEAN), atol=0.12, rtol=0)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("sampler", lookup.SAMPLERS)
def test_every_sampler_knows_what_the_model_predicts(sampler: str, prediction_type: str) -> None:
    if prediction_type == "sample" and sampler not in drawing.FOR_SAMPLE_PREDICTION:
        with pytest.raises(InputError, match="does not fit a model that predicts samples; use ddim, "):
            make_scheduler(made_for(prediction_type), sampler, 12)
        return
    latents = drawn_by_perfect_model(sampler, prediction_type, 12)
    torch.testing.assert_close(latents, torch.full_like(latents, CLEAN), atol=0.12, rtol=0)


@pytest.mark.parametrize("steps", [1, 7, 99, 350, 1000])
@pytest.mark.parametrize("sampler", lookup.SAMPLERS)
def test_every_number_of_steps_begins_in_noise(sampler: str, steps: int) -> None:
    scheduler = make_scheduler(made_for("epsilon"), sampler, steps)
    scheduler.set_timesteps(steps)
    assert 750 <= scheduler.timesteps[0] < 1000
    assert scheduler.timesteps.min() >= 0


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown sampler 'eulr'; allowed: ddim, "):
        make_scheduler(made_for("epsilon"), "eulr", 20)


@pytest.mark.parametrize(
    "prompt",
    [PROMPT, replace(PROMPT, guidance=1.0), replace(PROMPT, width=96, seed=2**62), replace(PROMPT, text="")],
    ids=["guided", "unguided", "wide", "empty"],
)
def test_ddim_draws_what_the_pipeline_of_diffusers_draws(
    painter: Painter, pipeline: Any, prompt: Prompt
) -> None:
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    expected = pipeline_picture(pipeline, prompt)
    assert np.abs(shades(painter.draw(prompt)) - expected).max() <= 1
    assert expected.std() > 1


@pytest.mark.parametrize("sampler", lookup.SAMPLERS)
def test_every_sampler_draws_what_the_pipeline_of_diffusers_draws(
    painter: Painter, pipeline: Any, sampler: str
) -> None:
    pipeline.scheduler = make_scheduler(painter.family, sampler, PROMPT.steps)
    expected = pipeline_picture(pipeline, PROMPT)
    assert np.abs(shades(painter.draw(PROMPT, sampler)) - expected).max() <= 2


def test_clip_skip_reaches_the_text_encoder(painter: Painter) -> None:
    assert painter.draw(PROMPT, clip_skip=1) == painter.draw(PROMPT) != painter.draw(PROMPT, clip_skip=2)


def test_the_sampler_of_the_prompt_is_used(painter: Painter) -> None:
    prompt = replace(PROMPT, sampler="euler_a")
    assert painter.draw(prompt) == painter.draw(PROMPT, "Euler_a") != painter.draw(PROMPT)


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "dpm_2_a"])
def test_a_picture_is_made_by_its_seed_alone(painter: Painter, sampler: str, random_state: None) -> None:
    first = painter.draw(PROMPT, sampler)
    torch.Generator().manual_seed(3)
    assert painter.draw(replace(PROMPT, seed=8), sampler) != first
    assert painter.draw(PROMPT, sampler) == first


def test_guidance_and_negative_words_matter_only_together(painter: Painter) -> None:
    unguided = replace(PROMPT, guidance=1.0)
    assert painter.draw(unguided) == painter.draw(replace(unguided, negative="other"))
    assert painter.draw(PROMPT) != painter.draw(replace(PROMPT, negative="other"))


@pytest.mark.parametrize(("guidance", "pieces"), [(1.0, 1), (0.0, 1), (1.5, 2)])
def test_no_guidance_costs_no_second_prediction(
    painter: Painter, monkeypatch: pytest.MonkeyPatch, guidance: float, pieces: int
) -> None:
    seen = []
    predict = painter.family.predict

    def watch(unet: Any, noisy: torch.Tensor, timesteps: torch.Tensor, condition: Any) -> torch.Tensor:
        seen.append((len(noisy), len(timesteps), len(condition.hidden)))
        return predict(unet, noisy, timesteps, condition)

    monkeypatch.setattr(painter.family, "predict", watch)
    painter.draw(replace(PROMPT, guidance=guidance))
    assert seen == [(pieces, pieces, pieces)] * PROMPT.steps


def test_the_models_are_left_as_found(painter: Painter) -> None:
    unet = painter.unet
    picture = painter.draw(PROMPT)
    unet.train()
    unet.down_blocks[0].eval()
    unet.down_blocks[1].resnets[0].dropout.p = 0.9
    before = {name: part.training for name, part in unet.named_modules()}
    learning = unet.conv_in.weight.requires_grad_(True)
    try:
        assert painter.draw(PROMPT) == picture
        assert {name: part.training for name, part in unet.named_modules()} == before
        assert learning.requires_grad and learning.grad is None
    finally:
        unet.down_blocks[1].resnets[0].dropout.p = 0.0
        unet.requires_grad_(False).eval()


def test_the_models_are_left_as_found_after_an_error(
    painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(painter.family, "predict", fail)
    painter.unet.train()
    with pytest.raises(RuntimeError, match="out of memory"):
        painter.draw(PROMPT)
    assert painter.unet.training and painter.unet.mid_block.training
    painter.unet.eval()


@pytest.mark.parametrize("length", [75, 150])
def test_long_prompts(painter: Painter, length: int) -> None:
    long = replace(PROMPT, text="dog " * 75 + "cat")
    same = painter.draw(long, max_token_length=length) == painter.draw(
        replace(long, text="dog " * 75 + "red"), max_token_length=length
    )
    assert same == (length == 75)


def test_half_precision_changes_little(painter: Painter) -> None:
    exact, rounded = shades(painter.draw(PROMPT)), shades(painter.draw(PROMPT, dtype=torch.bfloat16))
    assert 0 < np.abs(exact - rounded).mean() < 8


def test_half_precision_with_weights_of_half_precision(painter: Painter) -> None:
    family, dtype = painter.family, torch.bfloat16
    half = Painter(family, painter.vae, family.load_text_encoders(dtype), family.load_unet(dtype))
    assert np.abs(shades(half.draw(PROMPT, dtype=dtype)) - shades(painter.draw(PROMPT))).mean() < 8


def test_an_overflow_is_said(
    painter: Painter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(painter.family, "predict", lambda unet, noisy, *_: torch.full_like(noisy, torch.nan))
    picture = painter.draw(replace(PROMPT, seed=991), "ddim")
    assert "the picture of seed 991 overflowed" in capsys.readouterr().err
    assert picture.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_pixels_become_a_picture() -> None:
    pixels = torch.tensor([-1.0, 0.0, 1.0, 3.0, torch.nan]).expand(3, 1, -1)
    assert [to_picture(pixels).getpixel((x, 0))[0] for x in range(5)] == [0, 128, 255, 255, 0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_picture_and_gives_the_models_back(painter: Painter) -> None:
    expected = shades(painter.draw(PROMPT, "euler_a"))
    drawn = shades(painter.draw(PROMPT, "euler_a", device="cuda"))
    assert np.abs(drawn - expected).mean() < 1
    assert {parameter.device.type for parameter in painter.unet.parameters()} == {"cpu"}


@pytest.mark.parametrize("sampler", lookup.SAMPLERS)
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
