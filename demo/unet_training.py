"""Training the demo's UNet and text encoder together, from scratch, on cached latents of the world."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from demo.captions import caption
from demo.structure import SCHEDULER, build_text_encoder, build_unet
from demo.training import Budget, load_checkpoint, rate_factor, save_checkpoint, set_rate
from demo.vae_training import to_tensor
from demo.world import Creature, draw, random_for, sample

LEARNING_RATE = 1e-3
# Of the learning rate. At the UNet's own rate the text encoder's 12 fresh layers drift together until all captions read
# alike; words must stay apart long enough for the UNet to find out that they matter.
RATE_FACTORS = {"unet": 1.0, "text_encoder": 0.1, "token_embedding": 0.3}
WEIGHT_DECAY = 0.01
EMA_DECAY = 0.999
EMPTY_CAPTIONS = 0.1  # part of the captions, for classifier-free guidance
MIN_SNR_GAMMA = 5.0
PICTURES = 16  # of a step
SNAPSHOT_SECONDS = 300.0
DRAWS = 2  # timesteps per picture and step: the text encoder costs a third of a step, so its output is used twice


@dataclass
class World:
    """The cached world: creatures, and mean and standard deviation of their latents, each (count, 4, 16, 16)."""

    creatures: list[Creature]
    mean: torch.Tensor
    std: torch.Tensor

    @property
    def scaling_factor(self) -> float:
        """What makes the latents' standard deviation 1 over the world, as SD's 0.18215 does for its own."""
        drawn = self.mean.float().var(correction=0) + self.std.float().square().mean()
        return round(1.0 / drawn.sqrt().item(), 5)


@torch.no_grad()
def cache_world(vae: AutoencoderKL, path: Path, count: int, seed: int, device: torch.device) -> World:
    """Draw and encode `count` creatures, or read them from `path` where that was done before."""
    creatures = [sample(random_for(seed, index)) for index in range(count)]
    if path.exists():
        content = torch.load(path, weights_only=True)
        if content["seed"] == seed and len(content["mean"]) == count:
            return World(creatures, content["mean"], content["std"])
    means, stds = [], []
    for start in range(0, count, 32):
        pictures = torch.stack([to_tensor(draw(creature)) for creature in creatures[start : start + 32]])
        posterior = vae.encode(pictures.to(device)).latent_dist
        means.append(posterior.mean.half().cpu())
        stds.append(posterior.std.half().cpu())
    world = World(creatures, torch.cat(means), torch.cat(stds))
    torch.save({"seed": seed, "mean": world.mean, "std": world.std}, path)
    return world


def alphas_cumprod() -> torch.Tensor:
    """Products of the scaled-linear schedule, (1000,): SD's own."""
    start, end = SCHEDULER["beta_start"] ** 0.5, SCHEDULER["beta_end"] ** 0.5  # type: ignore[operator]
    betas = torch.linspace(start, end, SCHEDULER["num_train_timesteps"]) ** 2  # type: ignore[arg-type]
    return torch.cumprod(1.0 - betas, dim=0)


@dataclass
class Batch:
    """Token ids (pictures, 77); latents and noise (DRAWS x pictures, 4, 16, 16); timesteps (DRAWS x pictures,)."""

    ids: torch.Tensor
    latents: torch.Tensor
    noise: torch.Tensor
    timesteps: torch.Tensor


def training_batch(world: World, tokenizer: CLIPTokenizer, seed: int, step: int, pictures: int) -> Batch:
    """What a step learns from; a function of its arguments only."""
    rng = random_for(seed, step, "unet")
    chosen = [rng.randrange(len(world.creatures)) for _ in range(pictures)]
    texts = ["" if rng.random() < EMPTY_CAPTIONS else caption(world.creatures[i], rng) for i in chosen]
    encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    source = torch.Generator().manual_seed(seed * 1_000_003 + step)
    index = torch.tensor(chosen).repeat_interleave(DRAWS)
    mean, std = world.mean[index].float(), world.std[index].float()
    latents = (mean + std * torch.randn(mean.shape, generator=source)) * world.scaling_factor
    # Stratified timesteps: one from each equal part of the schedule, so that steps differ less in difficulty.
    spread = (torch.randperm(len(index), generator=source) + torch.rand(len(index), generator=source)) / len(index)
    noise = torch.randn(mean.shape, generator=source)
    return Batch(encoded.input_ids, latents, noise, (spread * 1000).long().clamp(max=999))


def diffusion_loss(
    unet: UNet2DConditionModel, text_encoder: CLIPTextModel, batch: Batch, products: torch.Tensor
) -> torch.Tensor:
    """Epsilon loss, each sample weighted by `loss_weight`."""
    device = products.device
    timesteps, noise = batch.timesteps.to(device), batch.noise.to(device)
    alpha = products[timesteps].view(-1, 1, 1, 1)
    noisy = alpha.sqrt() * batch.latents.to(device) + (1.0 - alpha).sqrt() * noise
    # bf16 halves a step on a GPU; on a CPU it makes convolutions this narrow slower.
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        hidden = text_encoder(batch.ids.to(device)).last_hidden_state
        predicted = unet(noisy, timesteps, hidden.repeat_interleave(DRAWS, dim=0)).sample
    per_sample = (predicted.float() - noise).square().mean(dim=(1, 2, 3))
    return (per_sample * loss_weight((alpha / (1.0 - alpha)).flatten())).mean()


def loss_weight(snr: torch.Tensor) -> torch.Tensor:
    """min(SNR, 5) / SNR (Hang et al. 2023, arXiv 2303.09556, equation 5), and 1 / sqrt(SNR) below an SNR of 1.

    Near pure noise the epsilon error is small whatever is drawn; there the caption decides, and has to be learned.
    """
    return snr.clamp(max=MIN_SNR_GAMMA) / snr * snr.clamp(max=1.0).rsqrt()


def parameter_groups(learner: nn.Module) -> list[dict[str, object]]:
    """UNet, text encoder and its word embeddings, each with matrices that decay, and all else that does not."""
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in learner.named_parameters():
        part = "token_embedding" if "token_embedding" in name else name.partition(".")[0]
        decays = parameter.ndim >= 2 and "embedding" not in name
        groups.setdefault((part, decays), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": WEIGHT_DECAY * decays, "factor": RATE_FACTORS[part]}
        for (part, decays), parameters in groups.items()
    ]


@torch.no_grad()
def update_average(average: nn.Module, learner: nn.Module, step: int) -> None:
    """Exponential moving average of the weights, fast at first, when the weights are not worth remembering."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), list(learner.parameters()), 1.0 - decay)


def build_learner(seed: int) -> nn.ModuleDict:
    """Fresh UNet and text encoder from one seed."""
    torch.manual_seed(seed)
    return nn.ModuleDict({"unet": build_unet(), "text_encoder": build_text_encoder()})


def train_unet(
    world: World,
    tokenizer: CLIPTokenizer,
    work: Path,
    budget: Budget,
    seed: int,
    device: torch.device,
    snapshot: Callable[[nn.ModuleDict], None],
) -> nn.ModuleDict:
    """Train, or go on from `work`/unet.pt, until the budget is spent; returns the averaged weights."""
    learner, average = build_learner(seed).to(device), build_learner(seed).to(device).requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(learner), lr=LEARNING_RATE, betas=(0.9, 0.99))
    path = work / "unet.pt"
    if state := load_checkpoint(path, budget):
        learner.load_state_dict(state["learner"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
    products, written = alphas_cumprod().to(device), budget.done_seconds
    learner.train()
    while budget.fraction < 1.0:
        step = budget.done_steps
        set_rate(optimizer, LEARNING_RATE * rate_factor(budget, warmup_steps=200))
        batch = training_batch(world, tokenizer, seed, step, PICTURES)
        loss = diffusion_loss(learner["unet"], learner["text_encoder"], batch, products)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        update_average(average, learner, step)
        budget.tick()
        if step % 50 == 0 or budget.fraction >= 1.0:  # reading the loss waits for the device, so seldom
            print(f"unet step {step} {budget.done_seconds:.0f} s loss {loss.item():.4f}", flush=True)
        if budget.done_seconds - written >= SNAPSHOT_SECONDS or budget.fraction >= 1.0:
            written = budget.done_seconds
            content = {"learner": learner.state_dict(), "average": average.state_dict()}
            save_checkpoint(path, {**content, "optimizer": optimizer.state_dict()}, budget)
            snapshot(average)
    return average.eval()
