"""Two ways to take one training step on the same model and batch: this project's, and a plain loop of its libraries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn

from library.device import Compute
from library.diffusion.schedule import scaled_linear
from library.models.family import Condition, Family
from library.seeds import derive_seed
from library.settings import Settings
from library.train.learner import build_learner
from library.train.model import Model, build_network, learning_dtype, make_ready
from library.train.model_result import ModelResult
from library.train.objective import make_objective
from library.train.rates import part_rates
from library.train.recorded import open_recording
from library.train.results import AdapterResult
from library.train.step import Batch
from library.train.training import Training
from library.train.whole import WholeModel

Step = Callable[[int], Any]


@dataclass(frozen=True)
class Fixed:
    """Stands in for the text encoders of a run whose captions are cached: they all say the same."""

    condition: Condition
    trained: bool = False
    encoders: Sequence[nn.Module] = ()

    def read(self, captions: Sequence[str]) -> Condition:
        """The condition (1, tokens, width) for each caption."""
        count = len(captions)
        return self.condition.each(lambda part: part.expand(count, *part.shape[1:]))


def random_condition(family: Family, unet: Any, device: torch.device) -> Condition:
    """What text encoders might say to a caption of 75 tokens."""
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(1, 77, unet.config.cross_attention_dim, generator=generator).to(device)
    pooled = torch.randn(1, 1280, generator=generator).to(device) if family.takes_sizes else None
    return Condition(hidden, pooled)


def random_batch(family: Family, size: int, count: int, device: torch.device) -> Batch:
    """`count` cached pictures of `size` pixels each way."""
    generator = torch.Generator().manual_seed(2)
    mean, logvar = (torch.randn(count, 4, size // 8, size // 8, generator=generator).to(device) for _ in range(2))
    weights = torch.full((count,), 1 / count, device=device)
    sizes = torch.tensor([[size, size, 0, 0, size, size]] * count, device=device) if family.takes_sizes else None
    return Batch(mean, logvar - 12, [""] * count, weights, [derive_seed(3, n) for n in range(count)], None, sizes)


def ours(settings: Settings, family: Family, compute: Compute, size: int) -> Step:
    """One step as `train_network.py` or `train_dreambooth.py` take it, without what happens between the steps."""
    rates = part_rates(settings, family.text_parts)
    order = torch.channels_last if settings.channels_last else torch.preserve_format
    unet: Any = family.load_unet(learning_dtype(settings, compute))
    unet.to(compute.device, memory_format=order)
    if settings.trains_whole:
        learned: Any = WholeModel({"unet": unet})
        result: Any = ModelResult(settings, family, learned)
    else:
        learned = build_network(settings, family, {"unet": unet})
        result = AdapterResult(settings, learned)
    learner = build_learner(settings, learned, rates, compute, 1000)
    make_ready(settings, compute, unet)
    reader: Any = Fixed(random_condition(family, unet, compute.device))
    model = Model(family, unet, reader, learner, result, None, settings.trains_whole or not settings.fast_layers)
    nothing: Any = SimpleNamespace()
    objective, recording = make_objective(settings, family, compute), open_recording(settings, learner, compute.device)
    training = Training(model, nothing, objective, nothing, compute, settings.seed, recording=recording)
    batch = random_batch(family, size, settings.train_batch_size, compute.device)
    return lambda number: training.step(number, [batch])


def plain(settings: Settings, family: Family, compute: Compute, size: int) -> Step:
    """The loop that tutorials have: diffusers' UNet, PEFT's adapter, autocast, AdamW, one batch again and again."""
    whole, device = settings.trains_whole, compute.device
    unet: Any = family.load_unet(torch.float32 if whole else compute.dtype).to(device)
    if whole:
        unet.requires_grad_(True)
    else:
        chosen = list(family.adapter_layers(unet, "unet"))
        unet.add_adapter(LoraConfig(r=settings.network_dim, lora_alpha=settings.network_alpha, target_modules=chosen))
    learning = [each for each in unet.parameters() if each.requires_grad]
    for parameter in learning:
        parameter.data = parameter.data.float()
    unet.train()
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(learning, lr=settings.learning_rate)
    condition = Fixed(random_condition(family, unet, device)).read([""] * settings.train_batch_size)
    batch = random_batch(family, size, settings.train_batch_size, device)
    noised = _plain_noise(scaled_linear(*family.betas).to(device), batch, family.latent_scale)
    added = {"text_embeds": condition.pooled, "time_ids": batch.sizes} if family.takes_sizes else None

    def step(_: int) -> None:
        noise, timesteps, noisy = noised()
        with compute.autocast():
            answer = unet(noisy, timesteps, condition.hidden, added_cond_kwargs=added).sample
        loss = nn.functional.mse_loss(answer.float(), noise)
        loss.backward()
        nn.utils.clip_grad_norm_(learning, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _plain_noise(schedule: Any, batch: Batch, scale: float) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """Draws noise and timesteps as plain loops do."""
    latents = batch.mean * scale

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        noise = torch.randn_like(latents)
        timesteps = torch.randint(0, schedule.steps, (len(latents),), device=latents.device)
        return noise, timesteps, schedule.add_noise(latents, noise, timesteps)

    return draw
