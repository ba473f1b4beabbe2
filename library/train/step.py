"""One batch through the model: what is predicted, and how wrong it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from library.data.epochs import Shape
from library.diffusion.loss import Measure, Weighting, per_sample_loss
from library.diffusion.noise import Noise, sample_latents
from library.diffusion.schedule import Schedule
from library.diffusion.timesteps import draw_timesteps
from library.models.family import Condition, Family
from library.seeds import derive_seed


@dataclass(frozen=True)
class Batch:
    """Samples of one size. `mean` and `logvar` are those of the VAE: (batch, 4, height / 8, width / 8).

    `weights` (batch,) holds each sample's share of the loss, 0 for padding; `draws` names each sample's random
    draws, so that they do not depend on where in which batch it stands. `mask` (batch, 1, height / 8, width / 8) in
    [0, 1] says how much each latent counts; without it all count fully. `sizes` (batch, 6) are those of
    `Condition`, for families that are told of them. `names` are those of the pictures; `of_class`
    says which are pictures of the class.
    """

    mean: Tensor
    logvar: Tensor
    captions: Sequence[str]
    weights: Tensor
    draws: Sequence[int]
    mask: Tensor | None = None
    sizes: Tensor | None = None
    names: Sequence[str] = ()
    of_class: Sequence[bool] = ()


def made_up_batch(shape: Shape, channels: int, device: torch.device, of_class: bool = False) -> Batch:
    """Grey pictures without words, for steps that are about nothing."""
    (width, height), count = shape
    mean = torch.zeros(count, channels, height // 8, width // 8, device=device)
    return Batch(
        mean=mean,
        logvar=torch.zeros_like(mean),
        captions=[""] * count,
        weights=torch.full((count,), 1 / count, device=device),
        draws=range(count),
        sizes=torch.tensor([[height, width, 0.0, 0.0, height, width]] * count, device=device),
        names=["a made-up picture"] * count,
        of_class=[of_class] * count,
    )


class Question(NamedTuple):
    """What the model is asked: noisy latents (batch, 4, height / 8, width / 8) with their timesteps (batch,), and the
    right answer, shaped as they are.
    """

    noisy: Tensor
    timesteps: Tensor
    target: Tensor


@dataclass(frozen=True)
class Objective:
    """What is asked of the prediction, and how its answer is judged.

    `draw` gives timesteps by the samples' seeds. Where it draws them in proportion to their weights, `even_weight` is
    what each loss counts with instead.
    """

    schedule: Schedule
    prediction_type: str
    noise: Noise = Noise()
    measure: Measure = Measure()
    weighting: Weighting = Weighting()
    draw: Callable[[Sequence[int]], Tensor] = partial(draw_timesteps, low=0, high=1000)
    even_weight: float | None = None

    def question(self, family: Family, batch: Batch, timesteps: Tensor | None = None) -> Question:
        """The question about each sample, from its own seeds; so are the timesteps (batch,), unless they are given."""
        latents = sample_latents(batch.mean, batch.logvar, purposes(batch.draws, "latent")) * family.latent_scale
        seeds = purposes(batch.draws, "noise")
        noise = self.noise.draw(seeds, latents)
        if timesteps is None:
            timesteps = self.draw(purposes(batch.draws, "timestep"))
        timesteps = timesteps.to(batch.mean.device)
        noisy = self.schedule.add_noise(latents, self.noise.disturb(seeds, noise), timesteps)
        return Question(noisy, timesteps, self.schedule.target(latents, noise, timesteps, self.prediction_type))

    def losses(self, family: Family, unet: nn.Module, batch: Batch, condition: Condition, question: Question) -> Tensor:
        """The weighted loss of each sample's answer under `condition`, (batch,), in float32."""
        noisy, timesteps, target = question
        prediction = family.predict(unet, noisy, timesteps, condition._replace(sizes=batch.sizes))
        snr, thresholds = self.schedule.snr(timesteps), None
        if self.measure.has_threshold:
            thresholds = self.measure.thresholds(timesteps, snr, self.schedule.steps)
        losses = per_sample_loss(prediction, target, batch.mask, self.measure.kind, thresholds)
        if self.even_weight is not None:
            losses = losses * self.even_weight
        elif not self.weighting.is_even:
            losses = losses * self.weighting.of(snr, self.prediction_type)
        return losses * batch.weights


def purposes(draws: Sequence[int], purpose: str) -> list[int]:
    """Each sample's seed for one kind of draw."""
    return [derive_seed(draw, purpose) for draw in draws]
