"""The settings of the loss, the noise and the timesteps."""

from dataclasses import dataclass

from library.settings.rules import option


@dataclass(frozen=True)
class LossFields:
    """The loss: how wrong an answer is, and how much it counts."""

    loss_type: str = option(
        "l2",
        "The error: squared, absolute, or a mixture that hardly looks at what is far out (huber, smooth_l1).",
        choices=("l2", "l1", "huber", "smooth_l1"),
    )
    huber_schedule: str = option(
        "snr",
        "How huber's and smooth_l1's threshold follows the timestep.",
        choices=("snr", "exponential", "constant"),
    )
    huber_c: float = option(0.1, "The threshold, with a schedule its lower end.", low=1e-6)
    huber_scale: float = option(1.0, "Multiplies the threshold of the constant and the exponential schedule.", low=1e-6)
    min_snr_gamma: float | None = option(
        None, "Weighs timesteps by min-SNR with this gamma, 5 as a rule.", low=0, zero_is_unset=True
    )
    soft_min_snr: bool = option(False, "Makes min_snr_gamma's weights a smooth curve.")
    debiased_estimation_loss: bool = option(False, "Weighs timesteps by 1 / sqrt(SNR), more the more noise there is.")
    scale_v_pred_loss_like_noise_pred: bool = option(
        False, "Weighs timesteps of a model that predicts v as if it predicted noise."
    )
    v_pred_like_loss: float | None = option(
        None,
        "Adds so much of the loss that a model which predicts noise would have if it predicted v.",
        low=0,
        zero_is_unset=True,
    )
    caption_loss_weights: tuple[str, ...] = option(
        (),
        "Weighs pictures by words of their captions, each as words=weight, such as blurry=0.5; where several fit, "
        "their weights are multiplied.",
    )
    prior_loss_weight: float = option(
        1.0, "The weight in the loss of class pictures, or of what prior_preservation = self keeps.", low=0
    )


@dataclass(frozen=True)
class NoiseFields:
    """Noise and timesteps."""

    noise_offset: float = option(0.0, "Adds this much of one random shade per channel to the noise.", low=0)
    noise_offset_random_strength: bool = option(
        False, "Gives each picture a random noise_offset from 0 up to the one that is set."
    )
    adaptive_noise_scale: float | None = option(
        None, "Adds this much of the latents' own mean to noise_offset; it may be below 0.", zero_is_unset=True
    )
    multires_noise_iterations: int | None = option(
        None, "Adds noise of so many resolutions, 6 to 10 as a rule.", low=1, zero_is_unset=True
    )
    multires_noise_discount: float = option(
        0.3, "How strong each resolution is against the next finer one.", low=0, high=1
    )
    ip_noise_gamma: float | None = option(
        None, "Gives the model this much more noise than it is told of, 0.1 as a rule.", low=0, zero_is_unset=True
    )
    ip_noise_gamma_random_strength: bool = option(
        False, "Gives each picture a random ip_noise_gamma from 0 up to the one that is set."
    )
    min_timestep: int | None = option(None, "The lowest timestep that is trained.", low=0, high=999)
    max_timestep: int | None = option(None, "The timestep below which all are trained.", low=1, high=1000)
    timestep_sampling: str = option(
        "uniform",
        "How often timesteps are drawn: all alike, the middle ones more (logit_normal), or in proportion to their "
        "weights in the loss, which they then have no more (importance).",
        choices=("uniform", "logit_normal", "importance"),
    )
    logit_mean: float = option(0.0, "Moves logit_normal's timesteps to more noise, or below 0 to less.")
    logit_std: float = option(1.0, "How far logit_normal's timesteps spread.", low=0.01)
