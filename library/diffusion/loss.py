"""How wrong a prediction is, and how much each timestep's error counts."""

from torch import Tensor

from library.diffusion.schedule import check_prediction_type


def per_sample_loss(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error of each sample, (batch,) float32, from two (batch, channels, height, width).

    Errors are multiplied by `mask` (batch, 1, height, width) before the mean over all of them, as in sd-scripts: a
    picture of which half counts has half the loss.
    """
    errors = (prediction.float() - target.float()).square()
    return (errors if mask is None else errors * mask).flatten(1).mean(1)


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
