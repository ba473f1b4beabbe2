"""Training the demo's VAE: crops of the world, some in other colours and shapes so that it carries them too."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

from demo.structure import build_vae
from demo.training import Budget, load_checkpoint, rate_factor, save_checkpoint, set_rate
from demo.world import OUTLINE, PALETTE, SIZE, Canvas, Color, draw, random_for, sample

CROP = 64  # pixels
LEARNING_RATE = 2e-3
DECODER_LEARNING_RATE = 1e-3
KL_WEIGHT = 1e-4  # per latent number; light, but enough to keep latents smooth for the diffusion model
FULL_PICTURES_FROM = 0.85  # the last part sees whole pictures, whose group-norm statistics differ from crops'


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """RGB picture to (3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.asarray(picture, dtype=np.float32).copy()).permute(2, 0, 1) / 127.5 - 1.0


def strange_picture(seed: int, index: int) -> Image.Image:
    """Loose shapes in any colours: what users will show to this VAE is not of its world."""
    rng = random_for(seed, index, "strange")
    colors = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(8)]
    canvas = Canvas(colors[0])  # type: ignore[arg-type]
    for color in colors[1:]:
        x, y, radius = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(5, 35)
        fill = color if rng.random() < 0.5 else rng.choice(list(PALETTE.values()))
        kind = rng.randrange(4)
        if kind == 0:
            canvas.outlined_circle(x, y, radius, fill)  # type: ignore[arg-type]
        elif kind == 3:
            draw_layers(canvas, rng, (x, y), radius, (color, fill))  # type: ignore[arg-type]
        elif kind == 1:
            corners = [(x + rng.uniform(-radius, radius), y + rng.uniform(-radius, radius)) for _ in range(4)]
            canvas.polygon(corners, fill)  # type: ignore[arg-type]
        else:
            end = (x + rng.uniform(-50, 50), y + rng.uniform(-50, 50))
            canvas.line([(x, y), end], rng.uniform(OUTLINE, 16), fill)  # type: ignore[arg-type]
    return canvas.finished()


def draw_layers(
    canvas: Canvas, rng: random.Random, centre: tuple[float, float], radius: float, colors: tuple[Color, Color]
) -> None:
    """A block of level layers in two colours: edges between any colours, without ink, must survive too."""
    x, y = centre
    high = rng.uniform(8, 18)
    for number in range(max(2, round(2 * radius / high))):
        top = y - radius + number * high
        corners = [(x - radius, top), (x + radius, top), (x + radius, top + high), (x - radius, top + high)]
        canvas.fill(corners, colors[number % 2])
    outline = [(x - radius, y - radius), (x + radius, y - radius), (x + radius, y + radius), (x - radius, y + radius)]
    canvas.line([*outline, outline[0]], OUTLINE)


def training_picture(seed: int, index: int) -> torch.Tensor:
    """One picture for the VAE, (3, SIZE, SIZE): mostly the world's own, some recoloured, some strange."""
    rng = random_for(seed, index, "vae")
    kind = rng.random()
    if kind < 0.30:
        return to_tensor(strange_picture(seed, index))
    picture = to_tensor(draw(sample(rng)))
    if kind < 0.45:
        picture = picture[torch.tensor(rng.sample(range(3), 3))] * rng.uniform(0.6, 1.0)
    return picture


def training_batch(seed: int, step: int, crops: int, full: bool) -> torch.Tensor:
    """(crops, 3, CROP, CROP), or a quarter as many whole pictures; a function of its arguments only."""
    count = crops // 4 if full else crops
    pictures = []
    for number in range(count):
        index = step * crops + number
        picture = training_picture(seed, index)
        if not full:
            rng = random_for(seed, index, "crop")
            top, left = (8 * rng.randrange((SIZE - CROP) // 8 + 1) for _ in range(2))
            picture = picture[:, top : top + CROP, left : left + CROP]
        pictures.append(picture)
    return torch.stack(pictures)


def vae_loss(vae: AutoencoderKL, pictures: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
    """L1 + MSE + L1 of the edges + a light KL, for (batch, 3, height, width) in [-1, 1]."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        posterior = vae.encode(pictures).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        drawn = torch.randn(mean.shape, generator=noise).to(mean.device)
        decoded = vae.decode(mean + drawn * torch.exp(0.5 * logvar)).sample.float()
    edges = sum(F.l1_loss(decoded.diff(dim=axis), pictures.diff(dim=axis)) for axis in (2, 3))
    kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
    return F.l1_loss(decoded, pictures) + F.mse_loss(decoded, pictures) + 0.5 * edges + KL_WEIGHT * kl


def train_vae(work: Path, budget: Budget, seed: int, device: torch.device, crops: int = 12) -> AutoencoderKL:
    """Train, or go on from `work`/vae.pt, until the budget is spent: crops first, whole pictures at the end."""
    torch.manual_seed(seed)
    vae = build_vae().to(device)

    def pictures(step: int) -> torch.Tensor:
        """Crops, then whole pictures."""
        return training_batch(seed, step, crops, full=budget.fraction >= FULL_PICTURES_FROM)

    _train(vae, list(vae.parameters()), pictures, work / "vae.pt", budget, LEARNING_RATE)
    return vae.eval()


def train_decoder(
    work: Path, vae: AutoencoderKL, budget: Budget, seed: int, device: torch.device, crops: int = 16
) -> AutoencoderKL:
    """Train the decoder alone on whole pictures: latents stay what they are, and the UNet that knows them."""
    vae.to(device).requires_grad_(False)
    learning = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    for parameter in learning:
        parameter.requires_grad_(True)

    def pictures(step: int) -> torch.Tensor:
        """Whole pictures that `train_vae` has not seen."""
        return training_batch(seed + 1, step, crops, full=True)

    _train(vae, learning, pictures, work / "decoder.pt", budget, DECODER_LEARNING_RATE)
    return vae.eval().requires_grad_(False)


def _train(
    vae: AutoencoderKL,
    learning: list[torch.nn.Parameter],
    pictures: Callable[[int], torch.Tensor],
    path: Path,
    budget: Budget,
    rate: float,
) -> None:
    """Train `learning` until the budget is spent; goes on from the checkpoint at `path`."""
    optimizer = torch.optim.AdamW(learning, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)
    if state := load_checkpoint(path, budget):
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
    device = learning[0].device
    while budget.fraction < 1.0:
        step = budget.done_steps
        set_rate(optimizer, rate * rate_factor(budget))
        loss = vae_loss(vae, pictures(step).to(device), torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        budget.tick()
        if step % 100 == 0 or budget.fraction >= 1.0:
            print(f"{path.stem} step {step} {budget.done_seconds:.0f} s loss {loss.item():.4f}", flush=True)
        if step % 500 == 499 or budget.fraction >= 1.0:
            save_checkpoint(path, {"vae": vae.state_dict(), "optimizer": optimizer.state_dict()}, budget)
