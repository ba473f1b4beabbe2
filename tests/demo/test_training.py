"""The demo's trainings: learning-rate curve, budgets, and a few steps that learn and go on after an interruption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from demo import structure, unet_training, vae_training
from demo.training import Budget, load_checkpoint, rate_factor, save_checkpoint
from demo.unet_training import DRAWS, World, alphas_cumprod, cache_world, diffusion_loss, loss_weight, train_unet
from demo.vae_training import to_tensor, train_decoder, train_vae
from demo.world import draw, random_for, sample
from tests.toys import toy_unet, toy_vae

CPU = torch.device("cpu")
TOKENIZER = Path(structure.__file__).parent / "model" / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TOKENIZER)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts with few channels instead of the demo's."""
    monkeypatch.setattr(unet_training, "build_unet", small_unet)
    monkeypatch.setattr(unet_training, "build_text_encoder", small_text_encoder)
    monkeypatch.setattr(vae_training, "build_vae", toy_vae)


def small_unet() -> UNet2DConditionModel:
    return toy_unet(sample_size=16)


def small_text_encoder() -> CLIPTextModel:
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    return CLIPTextModel(CLIPTextConfig(vocab_size=49408, num_attention_heads=2, eos_token_id=49407, **sizes))


def small_world(count: int = 6) -> World:
    """Creatures with made-up latents."""
    source = torch.Generator().manual_seed(0)
    mean = torch.randn(count, 4, 16, 16, generator=source)
    return World([sample(random_for(0, index)) for index in range(count)], mean, torch.full_like(mean, 0.1))


def test_the_rate_rises_stays_and_falls() -> None:
    budget = Budget(seconds=1.0, steps=1000)
    factors = []
    while budget.fraction < 1.0:
        factors.append(rate_factor(budget, warmup_steps=100, flat=0.3))
        budget.done_steps += 1
    assert factors[0] == pytest.approx(0.01) and factors[49] == pytest.approx(0.5)
    assert set(factors[100:300]) == {1.0}
    assert factors[650] == pytest.approx(0.5, abs=0.01) and factors[-1] < 1e-4
    assert factors[300:] == sorted(factors[300:], reverse=True)


def test_budgets_count_seconds_or_steps() -> None:
    assert Budget(seconds=10.0, done_steps=5, done_seconds=4.0).fraction == 0.4
    assert Budget(seconds=10.0, steps=20, done_steps=5, done_seconds=4.0).fraction == 0.25
    assert Budget(seconds=10.0, done_seconds=40.0).fraction == 1.0
    budget = Budget(seconds=10.0)
    budget.tick()
    assert budget.done_steps == 1 and 0 < budget.done_seconds < 1


def test_checkpoints_bring_back_weights_and_budget(tmp_path: Path) -> None:
    path = tmp_path / "work" / "part.pt"
    assert load_checkpoint(path, Budget(10.0)) is None
    save_checkpoint(path, {"weights": torch.arange(3)}, Budget(10.0, done_steps=7, done_seconds=2.5))
    budget = Budget(10.0)
    content = load_checkpoint(path, budget)
    assert content is not None and content["weights"].tolist() == [0, 1, 2]
    assert (budget.done_steps, budget.done_seconds) == (7, 2.5)
    assert [file.name for file in path.parent.iterdir()] == ["part.pt"]


def test_batches_depend_on_seed_and_step_alone(tokenizer: CLIPTokenizer) -> None:
    world = small_world()
    first, again, other = (unet_training.training_batch(world, tokenizer, 0, step, 3) for step in (4, 4, 5))
    assert torch.equal(first.ids, again.ids) and torch.equal(first.latents, again.latents)
    assert torch.equal(first.timesteps, again.timesteps) and torch.equal(first.noise, again.noise)
    assert not torch.equal(first.noise, other.noise)
    assert first.ids.shape == (3, 77) and first.latents.shape == (3 * DRAWS, 4, 16, 16)
    # One timestep from each equal part of the schedule.
    assert sorted((first.timesteps * 3 * DRAWS // 1000).tolist()) == list(range(3 * DRAWS))


def test_a_tenth_of_the_captions_is_empty(tokenizer: CLIPTokenizer) -> None:
    ids = torch.cat([unet_training.training_batch(small_world(), tokenizer, 0, step, 16).ids for step in range(40)])
    assert 0.05 < (ids[:, 1] == tokenizer.eos_token_id).float().mean() < 0.16


def test_latents_are_scaled_to_one() -> None:
    world = small_world(40)
    drawn = (world.mean + world.std * torch.randn_like(world.mean)) * world.scaling_factor
    assert drawn.std().item() == pytest.approx(1.0, abs=0.02)


def test_the_schedule_is_that_of_sd() -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    assert torch.allclose(alphas_cumprod(), theirs)


def test_the_loss_is_weighted_by_the_signal_to_noise_ratio(tokenizer: CLIPTokenizer) -> None:
    class Nothing(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, *rest: torch.Tensor) -> Any:
            return type("Output", (), {"sample": torch.zeros_like(noisy)})

    batch = unet_training.training_batch(small_world(), tokenizer, 0, 0, 3)
    products = alphas_cumprod()
    weight = loss_weight((products / (1 - products))[batch.timesteps])
    expected = (batch.noise.square().mean(dim=(1, 2, 3)) * weight).mean()
    loss = diffusion_loss(Nothing(), small_text_encoder(), batch, products)  # type: ignore[arg-type]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("snr, weight", [(20.0, 0.25), (5.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.25, 2.0), (0.01, 10.0)])
def test_clean_pictures_weigh_less_and_pure_noise_more(snr: float, weight: float) -> None:
    assert loss_weight(torch.tensor([snr])).item() == pytest.approx(weight)


class Interrupted(Exception):
    """Stands for a lost machine."""


def test_the_unet_learns_and_an_interrupted_run_goes_on_the_same(
    toys: None, tokenizer: CLIPTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unet_training, "PICTURES", 2)
    monkeypatch.setattr(unet_training, "SNAPSHOT_SECONDS", 0.0)
    snapshots: list[torch.nn.Module] = []

    def stop_at_the_second(average: torch.nn.Module) -> None:
        snapshots.append(average)
        if len(snapshots) == 2:
            raise Interrupted

    def run(work: Path, snapshot: Callable[[torch.nn.ModuleDict], None]) -> dict[str, torch.Tensor]:
        budget = Budget(seconds=1.0, steps=4)
        return train_unet(small_world(), tokenizer, work, budget, 0, CPU, snapshot).state_dict()

    unbroken = run(tmp_path / "unbroken", lambda average: None)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at_the_second)
    resumed = run(tmp_path / "broken", snapshots.append)
    assert len(snapshots) == 4
    fresh = unet_training.build_learner(0).state_dict()
    for name, tensor in unbroken.items():
        assert torch.allclose(tensor, resumed[name], atol=1e-6), name
    learned = {name.split(".")[0] for name, tensor in unbroken.items() if not torch.equal(tensor, fresh[name])}
    assert learned == {"unet", "text_encoder"}


def test_the_average_follows_slowly_but_not_at_first() -> None:
    average, learner = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = average.weight.detach().clone()
    unet_training.update_average(average, learner, step=0)
    assert torch.allclose(average.weight, torch.lerp(before, learner.weight, 0.9))
    before = average.weight.detach().clone()
    unet_training.update_average(average, learner, step=10**6)
    assert torch.allclose(average.weight, torch.lerp(before, learner.weight, 0.001))


def test_pictures_become_tensors_from_minus_one_to_one() -> None:
    tensor = to_tensor(draw(sample(random_for(0, 0))))
    assert tensor.shape == (3, 128, 128) and -1.0 <= tensor.min() < -0.7 and 0.7 < tensor.max() <= 1.0


def test_the_vae_sees_crops_then_whole_pictures() -> None:
    crops, whole = (vae_training.training_batch(0, 3, 8, full) for full in (False, True))
    assert crops.shape == (8, 3, 64, 64) and whole.shape == (2, 3, 128, 128)
    assert torch.equal(crops, vae_training.training_batch(0, 3, 8, False))


def test_the_vae_learns_and_goes_on_where_it_was(toys: None, tmp_path: Path) -> None:
    trained = train_vae(tmp_path, Budget(seconds=1.0, steps=3), 0, CPU, crops=4)
    pictures = vae_training.training_batch(0, 0, 4, full=False)
    torch.manual_seed(0)
    loss = [vae_training.vae_loss(vae, pictures, torch.Generator()).item() for vae in (toy_vae(), trained)]
    assert loss[1] < loss[0]
    budget = Budget(seconds=1.0, steps=3)
    again = train_vae(tmp_path, budget, 0, CPU, crops=4)
    assert budget.done_steps == 3
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in trained.state_dict().items())


def test_training_the_decoder_leaves_latents_as_they_are(toys: None, tmp_path: Path) -> None:
    vae = toy_vae().eval()
    picture = to_tensor(draw(sample(random_for(0, 0))))[None]
    latent = vae.encode(picture).latent_dist.mean.detach()
    before = vae.decode(latent).sample.detach()
    train_decoder(tmp_path, vae, Budget(seconds=1.0, steps=2), 0, CPU, crops=4)
    assert torch.equal(vae.encode(picture).latent_dist.mean, latent)
    assert not torch.equal(vae.decode(latent).sample, before)
    assert not any(parameter.requires_grad for parameter in vae.parameters())


def test_the_world_is_encoded_once(tmp_path: Path) -> None:
    vae, path = toy_vae().requires_grad_(False), tmp_path / "latents.pt"
    first = cache_world(vae, path, 3, 0, CPU)
    assert first.mean.shape == first.std.shape == (3, 4, 16, 16)
    expected = vae.encode(to_tensor(draw(first.creatures[2]))[None]).latent_dist
    assert torch.allclose(first.mean[2].float(), expected.mean[0], atol=0.01)
    written = path.stat().st_mtime_ns
    assert torch.equal(cache_world(vae, path, 3, 0, CPU).mean, first.mean) and path.stat().st_mtime_ns == written
    assert not torch.equal(cache_world(vae, path, 3, 1, CPU).mean, first.mean)


def test_strange_pictures_are_of_many_colours() -> None:
    colors = {color for index in range(3) for _, color in vae_training.strange_picture(0, index).getcolors(20000)}
    assert len(colors) > 30
