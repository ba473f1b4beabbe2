"""Drawing: the same pictures as diffusers, by every sampler, without a trace on the models."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from library.lookup import SAMPLERS
from library.models.drawing import Painter, Start, to_picture
from library.models.family import open_family
from library.models.prompts import Prompt
from library.models.sampling import make_scheduler
from library.samplers import NAMES, split_name
from tests.toys import write_overflowing_sd1, write_toy_sd1

# The schedulers of diffusers hand tensors to numpy in a way that numpy means to end.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PROMPT = Prompt("a red dog", "blurry", width=64, height=64, seed=7, steps=6, guidance=5.0)
OF_DIFFUSERS = [name for name in NAMES if SAMPLERS[split_name(name)[0]].startswith("diffusers:")]


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


@pytest.mark.parametrize("sampler", OF_DIFFUSERS)
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


def test_a_batch_draws_what_each_alone_would_be(painter: Painter) -> None:
    """Prompts with other words, seeds, guidance and numbers of parts in one forward pass."""
    prompts = [
        replace(PROMPT, sampler="euler_a"),
        replace(PROMPT, sampler="euler_a", seed=8, guidance=1.0),
        replace(PROMPT, sampler="euler_a", seed=9, text="a (cat:1.3) AND a dog :0.5"),
    ]
    together = painter.draw_batch(prompts, painter.read(prompts))
    for prompt, picture in zip(prompts, together, strict=True):
        [alone] = painter.draw_batch([prompt], painter.read([prompt]))
        assert np.abs(shades(alone) - shades(picture)).max() <= 2
    assert together[0] != together[1]


def test_plain_words_are_drawn_as_without_the_grammar(painter: Painter) -> None:
    [picture] = painter.draw_batch([PROMPT], painter.read([PROMPT]))
    assert np.abs(shades(picture) - shades(painter.draw(PROMPT))).max() <= 1


def test_parts_add_their_guidance(painter: Painter) -> None:
    texts = ("a red dog", "a red dog AND a cat :0", "a red dog :0.5 AND a red dog :0.5", "a red dog AND a cat")
    plain, nothing, halves, both = (
        shades(painter.draw_batch([prompt], painter.read([prompt]))[0])
        for prompt in (replace(PROMPT, text=text) for text in texts)
    )
    assert max(np.abs(plain - nothing).max(), np.abs(plain - halves).max()) <= 1 < np.abs(plain - both).max()


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "heun", "dpmsolver++_karras"])
def test_a_picture_begins_with_another_as_in_the_pipeline_of_diffusers(
    painter: Painter, pipeline: Any, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    posterior = diffusers.models.autoencoders.vae.DiagonalGaussianDistribution
    monkeypatch.setattr(posterior, "sample", lambda self, generator=None: self.mean)
    other = Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    both = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    both.set_progress_bar_config(disable=True)
    both.scheduler = make_scheduler(painter.family, sampler, PROMPT.steps)
    [expected] = both(
        PROMPT.text, other, 0.7, PROMPT.steps, guidance_scale=PROMPT.guidance, negative_prompt=PROMPT.negative,
        generator=torch.Generator().manual_seed(PROMPT.seed),
    ).images  # fmt: skip
    prompt = replace(PROMPT, sampler=sampler)
    [drawn] = painter.draw_batch([prompt], painter.read([prompt]), start=Start(other, 0.7))
    assert np.abs(shades(drawn) - shades(expected)).max() <= 2
