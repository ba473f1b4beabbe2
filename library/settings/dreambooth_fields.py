"""The settings of a run that trains whole models, and not adapters on them."""

from dataclasses import dataclass

from library.settings.rules import option


@dataclass(frozen=True)
class DreamboothFields:
    """All weights, where no network is named."""

    train_text_encoder: bool = option(False, "Trains the text encoders' weights beside the UNet's.")
    learning_rate_te: float | None = option(
        None, "The learning rate of the text encoders' weights; unset means learning_rate.", low=0
    )
    stop_text_encoder_training: int | None = option(
        None,
        "The step from which the text encoders are frozen, or what learns on them; -1 means from the start.",
        low=-1,
        zero_is_unset=True,
    )
    full_bf16: bool = option(False, "Keeps the weights in bf16 and rounds them at random, in half the memory.")
    fused_backward_pass: bool = option(
        False, "Moves each weight as soon as its gradient is known, which is then freed."
    )
    ema: bool = option(False, "Averages the weights over the run and saves the average beside them.")
    ema_decay: float = option(
        0.9999,
        "The share of the average that stays in a step, less in the first ones: (1 + step) / (10 + step).",
        low=0,
        high=0.999999,
    )
    ema_device: str = option(
        "device", "Where the average lies: beside the weights, or on the CPU.", choices=("device", "cpu")
    )
