"""The defaults of the training of all weights, and what each value may be."""

import pytest

from library.settings.dreambooth_fields import DreamboothFields


def test_defaults() -> None:
    fields = DreamboothFields()
    assert not (fields.train_text_encoder or fields.full_bf16 or fields.fused_backward_pass or fields.ema)
    assert fields.learning_rate_te is fields.stop_text_encoder_training is None
    assert (fields.ema_decay, fields.ema_device) == (0.9999, "device")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--ema_decay 1 --ema", "ema_decay must be between 0 and 0.999999, not 1"),
        ("--ema_device gpu --ema", "ema_device must be device or cpu, not 'gpu'"),
        ("--stop_text_encoder_training -2", "stop_text_encoder_training must be at least -1, not -2"),
        ("--learning_rate_te -1", "learning_rate_te must be at least 0, not -1"),
    ],
)
def test_limits(line: str, sentence: str, complaints) -> None:
    assert [told for told in complaints(*line.split()) if sentence in told], complaints(*line.split())


def test_as_lora_scripts_writes_them(read) -> None:
    assert read("--stop_text_encoder_training", "0").stop_text_encoder_training is None
    assert read("--stop_text_encoder_training", "-1").stop_text_encoder_training == -1
