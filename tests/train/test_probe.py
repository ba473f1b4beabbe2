"""The probe's steps, with meters that tell what a GPU would."""

import math

import pytest
import torch

from library.data.epochs import Shape
from library.train.data import open_datasets
from library.train.fitting import Trial
from library.train.probe import CudaMeter, measured_peak_gb, meter_of
from library.train.training import Training

SHAPE = Shape((64, 64), 2)


class FakeMeter:
    """Tells the peaks that it is given, and when it was asked."""

    def __init__(self, *peaks: float) -> None:
        self.peaks, self.calls = list(peaks), []

    def begin(self) -> None:
        self.calls.append("begin")

    def peak_gb(self) -> float:
        self.calls.append("peak")
        return self.peaks.pop(0)


@pytest.fixture
def build(settings_of, family, compute):
    """A trial's training, built when it is called, and its settings."""

    def _build(**changes):
        settings = settings_of(**changes)
        trial = Trial(family, compute, open_datasets(settings))
        return settings, lambda: trial._training(settings)

    return _build


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_accumulation_steps": 3, "gradient_checkpointing": True},
        {"optimizer_type": "AdamW8bit", "network_train_unet_only": True},
        {"prior_preservation": "self", "class_prompt": "thing"},
        {"token_string": "<new>", "init_word": "thing", "trigger_words": "<new>"},
    ],
    ids=lambda changes: " ".join(changes) or "plain",
)
def test_real_steps_are_taken(build, monkeypatch, changes: dict) -> None:
    meter, seen, step = FakeMeter(1.5), [], Training.step

    def spied(training, number, batches):
        before = {name: each.clone() for name, each in training.model.learner.weights().items()}
        loss, norm = step(training, number, batches)
        after = training.model.learner.weights()
        seen.append((number, len(batches), bool(loss.isfinite()), bool(norm > 0)))
        assert any(not torch.equal(before[name], after[name]) for name in before)
        return loss, norm

    monkeypatch.setattr(Training, "step", spied)
    settings, training = build(**changes)
    assert measured_peak_gb(meter, training, settings, SHAPE) == 1.5
    parts = min(2, settings.gradient_accumulation_steps)
    assert seen == [(0, parts, True, True), (1, parts, True, True)]
    assert meter.calls == ["begin", "peak"], "what building takes counts too"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("CUDA error: out of memory")])
def test_no_memory_is_no_error(build, monkeypatch, error: Exception) -> None:
    def full(*_):
        raise error

    monkeypatch.setattr(Training, "step", full)
    settings, training = build()
    assert measured_peak_gb(FakeMeter(1.0), training, settings, SHAPE) == math.inf


def test_other_errors_are(build, monkeypatch) -> None:
    def wrong(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Training, "step", wrong)
    settings, training = build()
    with pytest.raises(RuntimeError, match="shapes differ"):
        measured_peak_gb(FakeMeter(1.0), training, settings, SHAPE)


def test_only_gpus_have_a_meter() -> None:
    assert meter_of(torch.device("cpu")) is None
    assert meter_of(torch.device("cuda", 1)) == CudaMeter(torch.device("cuda", 1))
