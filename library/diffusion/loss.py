"""How wrong a prediction is, and how much each timestep's error counts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from library.diffusion.schedule import check_prediction_type

# Beyond it a timestep's SNR is taken to be this, as in sd-scripts.
HIGHEST_SNR = 1000.0


@dataclass(frozen=True)
class Measure:
    """How far two tensors are apart: `kind` is "l2", "l1", "huber" or "smooth_l1".

    The last two turn from squares to absolute values at a threshold that `schedule` says by the timestep.
    """

    kind: str = "l2"
    schedule: str = "snr"
    threshold: float = 0.1
    scale: float = 1.0

    @property
    def has_threshold(self) -> bool:
        """Whether a threshold is needed."""
        return self.kind in ("huber", "smooth_l1")

    def thresholds(self, timesteps: Tensor, snr: Tensor, steps: int) -> Tensor:
        """The threshold of each sample, (batch,), of timesteps in a schedule of `steps` with these SNRs."""
        return huber_threshold(self.schedule, timesteps / steps, snr, self.threshold, self.scale)


@dataclass(frozen=True)
class Weighting:
    """How the loss of a timestep is weighed; without anything set each counts alike.

    `soft` makes the min-SNR of `min_snr_gamma` a smooth curve; the others are the functions of their names below.
    """

    min_snr_gamma: float | None = None
    soft: bool = False
    debiased: bool = False
    scale_v_like_noise: bool = False
    v_like: float = 0.0

    @property
    def is_even(self) -> bool:
        """Whether all timesteps count alike."""
        return self == Weighting()

    def of(self, snr: Tensor, prediction_type: str) -> Tensor:
        """The weights of timesteps with these SNRs, float32, shaped as `snr`: the product of all that is set."""
        weights = torch.ones_like(snr)
        if self.min_snr_gamma:
            min_snr = soft_min_snr_weight if self.soft else min_snr_weight
            weights = weights * min_snr(snr, self.min_snr_gamma, prediction_type)
        if self.scale_v_like_noise:
            weights = weights * noise_like_weight(snr)
        if self.v_like:
            weights = weights * v_like_weight(snr, self.v_like)
        if self.debiased:
            weights = weights * debiased_weight(snr, prediction_type)
        return weights


def per_sample_loss(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    kind: str = "l2",
    thresholds: Tensor | None = None,
) -> Tensor:
    """Mean error of each sample, (batch,) float32, from two (batch, channels, height, width).

    Errors are multiplied by `mask` (batch, 1, height, width) before the mean over all of them, as in sd-scripts: a
    picture of which half counts has half the loss. "huber" and "smooth_l1" need `thresholds` (batch,).
    """
    errors = pointwise_error(prediction.float() - target.float(), kind, thresholds)
    return (errors if mask is None else errors * mask).flatten(1).mean(1)


def pointwise_error(difference: Tensor, kind: str, thresholds: Tensor | None = None) -> Tensor:
    """The error of each number, shaped as `difference` (batch, ...).

    With the threshold c of a sample (batch,) and r = sqrt(d^2 + c^2) - c, "huber" is 2 c r and "smooth_l1" 2 r: the
    pseudo-Huber loss of Khrapov et al. 2024, arXiv 2403.16728, section 3, which is d^2 (or d^2 / c) near 0 and 2 c |d|
    (or 2 |d|) far from it.
    """
    if kind == "l2":
        return difference.square()
    if kind == "l1":
        return difference.abs()
    if kind not in ("huber", "smooth_l1") or thresholds is None:
        raise ValueError(f"no error is called {kind!r}, or it lacks its thresholds")
    c = thresholds.reshape(-1, *(1,) * (difference.dim() - 1))
    squares = difference.square()
    # d^2 / (sqrt(d^2 + c^2) + c), which is r without the difference of two almost equal numbers.
    rest = squares / ((squares + c.square()).sqrt() + c)
    return 2 * c * rest if kind == "huber" else 2 * rest


def huber_threshold(schedule: str, parts: Tensor, snr: Tensor, c: float, scale: float) -> Tensor:
    """Where the pseudo-Huber loss turns from squares to absolute values, shaped as `parts`.

    Args:
        schedule: "constant" is scale * c; "exponential" falls from scale to scale * c, scale * c ** part (Khrapov et
            al. 2024, arXiv 2403.16728, section 4); "snr" is (1 - c) / (1 + sigma)^2 + c with sigma = 1 / sqrt(SNR), as
            sd-scripts has it, which does not look at `scale`
        parts: timesteps as parts of the schedule, 0 .. 1
        snr: signal-to-noise ratios of the same timesteps
    """
    if schedule == "constant":
        return torch.full_like(parts, c * scale)
    if schedule == "exponential":
        return scale * torch.pow(torch.full_like(parts, c), parts)
    if schedule == "snr":
        return (1 - c) / (1 + snr.rsqrt()).square() + c
    raise ValueError(f"no course of the threshold is called {schedule!r}")


def min_snr_weight(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Min-SNR-gamma weights of the loss (Hang et al. 2023, arXiv 2303.09556, section 3.4), shaped as `snr`.

    The paper's weight min(snr, gamma) is for the error in x_0; divided by the factor between that error and
    the model's own it becomes min(snr, gamma) / snr for epsilon and min(snr, gamma) / (snr + 1) for v.
    """
    check_prediction_type(prediction_type)
    if prediction_type == "epsilon":
        # Written as gamma / snr, which stays 1 and is no 0 / 0 where a schedule ends in pure noise.
        return (gamma / snr).clamp(max=1.0)
    capped = snr.clamp(max=gamma)
    return capped if prediction_type == "sample" else capped / (snr + 1)


def soft_min_snr_weight(snr: Tensor, gamma: float, prediction_type: str) -> Tensor:
    """Soft min-SNR weights (Crowson et al. 2024, arXiv 2401.11605, section 3.3), shaped as `snr`.

    In place of min(snr, gamma) the error in x_0 is weighed by 1 / (1 / snr + 1 / gamma), which is always below both;
    for epsilon and v that is divided as in `min_snr_weight`.
    """
    check_prediction_type(prediction_type)
    for_epsilon = gamma / (snr + gamma)
    if prediction_type == "epsilon":
        return for_epsilon
    return snr * for_epsilon if prediction_type == "sample" else snr * for_epsilon / (snr + 1)


def debiased_weight(snr: Tensor, prediction_type: str) -> Tensor:
    """Weights of the debiased estimation loss (Yu et al. 2023, arXiv 2310.08442, section 3), shaped as `snr`.

    The paper's weight for epsilon is 1 / sqrt(SNR); for x_0 that is sqrt(SNR). For v it is sd-scripts' 1 / (SNR + 1),
    with which all errors in x_0 count alike.
    """
    check_prediction_type(prediction_type)
    capped = snr.clamp(max=HIGHEST_SNR)
    if prediction_type == "v_prediction":
        return 1 / (capped + 1)
    return capped.rsqrt() if prediction_type == "epsilon" else capped.sqrt()


def noise_like_weight(snr: Tensor) -> Tensor:
    """SNR / (SNR + 1), the signal's share of the variance: with it the error in v weighs what it is as one in epsilon.

    v = (epsilon - sigma x_t) / alpha for one x_t (Salimans and Ho 2022, arXiv 2202.00512, appendix D), so that an error
    in v is one in epsilon divided by alpha, and alpha^2 = SNR / (SNR + 1).
    """
    capped = snr.clamp(max=HIGHEST_SNR)
    return capped / (capped + 1)


def v_like_weight(snr: Tensor, amount: float) -> Tensor:
    """1 + amount * (SNR + 1) / SNR: to the error in epsilon so much of what it is as one in v is added.

    It is the reverse of `noise_like_weight`; both are sd-scripts'.
    """
    return 1 + amount / noise_like_weight(snr)
