"""The predicted memory against what a step of training really takes."""

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from library.data.epochs import Shape
from library.device import DTYPES
from library.settings import read_settings
from library.train.memory import _passing, optimizer_bytes, predicted_peak_gb, state_bytes
from library.train.model import build_model
from library.train.tape import record
from tests.runs import WHOLE

SMALL, LARGE = Shape((64, 64), 2), Shape((128, 128), 2)


@pytest.fixture
def build(settings_of, family, compute):
    """The toy's settings and model."""

    def _build(**changes):
        settings = settings_of(**changes)
        return settings, build_model(settings, family, compute, 4, ["", "a"])

    return _build


@pytest.fixture
def build_whole(bench, family, compute):
    """The same where all weights learn."""

    def _build(**changes):
        settings = read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth")
        computing = replace(compute, dtype=DTYPES[settings.mixed_precision])
        return settings, build_model(settings, family, computing, 4, ["", "a"]), computing

    return _build


def really_taken(model, compute, pixels: int) -> int:
    """The most bytes that a step of two pictures takes beyond what is there before and after it."""

    def step() -> None:
        with model.number_format(compute):
            condition = model.reader.read(["", "a"])
            noisy, timesteps = torch.randn(2, 4, pixels // 8, pixels // 8), torch.tensor([5, 600])
            loss = model.family.predict(model.unet, noisy, timesteps, condition).float().pow(2).mean()
        del condition
        model.learner.backward(loss)
        del loss
        model.learner.step()

    step()  # makes the optimizer's state
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    moves = sorted((each.start_ns(), each.nbytes()) for each in events if each.name() == "[memory]")
    return max(accumulate(size for _, size in moves))


FUSED = {"fused_backward_pass": True, "max_grad_norm": 0}
BF16 = {"full_bf16": True, "mixed_precision": "bf16"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"train_text_encoder": True},
        {"gradient_checkpointing": True},
        {"selective_checkpointing": True},
        {"mixed_precision": "bf16"},
        {"mixed_precision": "bf16", "gradient_checkpointing": True},
        BF16,
        FUSED,
        {**FUSED, **BF16, "gradient_checkpointing": True},
        {**FUSED, **BF16, "selective_checkpointing": True},
    ],
    ids=lambda changes: " ".join(changes) or "plain",
)
def test_a_step_of_all_weights(build_whole, changes: dict) -> None:
    settings, model, compute = build_whole(**changes)
    predicted = _passing(model, compute, settings, LARGE)
    assert predicted == pytest.approx(really_taken(model, compute, 128), rel=0.15)


def test_gradients_that_stay(build_whole) -> None:
    """Over several batches, or beside the prior's pass, they are there while the forward pass keeps most."""
    settings, model, compute = build_whole()
    alone = _passing(model, compute, settings, LARGE)
    several, _, _ = build_whole(gradient_accumulation_steps=2)
    gradients = sum(each.nbytes for each in model.learner.parameters)
    more = _passing(model, compute, several, LARGE) - alone
    assert 0.5 * gradients < more <= gradients


@pytest.mark.parametrize("optimizer", ["AdamW", "Adafactor", "AdamW8bit"])
def test_the_state_of_all_weights(build_whole, compute, optimizer: str) -> None:
    """Convolutions are not like matrices for Adafactor; for 8-bit optimizers the toy's weights are too small."""
    settings, model, _ = build_whole(optimizer_type=optimizer)
    if optimizer == "AdamW8bit":
        numbers = sum(each.numel() for each in model.learner.parameters)
        assert optimizer_bytes(model, settings, compute.device) == pytest.approx(2 * numbers, rel=0.3)
        return
    for parameter in model.learner.parameters:
        parameter.grad = torch.zeros_like(parameter)
    model.learner.optimizer.step()
    states = model.learner.optimizer.state.values()
    real = sum(each.nbytes for state in states for each in state.values() if isinstance(each, torch.Tensor))
    assert optimizer_bytes(model, settings, compute.device) == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize(("optimizer", "bytes_each"), [("AdamW", 8), ("Lion", 4), ("SGDNesterov", 4), ("AdamW8bit", 2)])
def test_optimizer_state(settings_of, compute, optimizer: str, bytes_each: float) -> None:
    found = state_bytes(settings_of(optimizer_type=optimizer), compute.device)
    assert found == pytest.approx(bytes_each, rel=0.3 if optimizer == "AdamW8bit" else 0.01)


def test_the_sum(build, compute) -> None:
    settings, model = build()
    small = predicted_peak_gb(model, compute, settings, [SMALL])
    both = predicted_peak_gb(model, compute, settings, [SMALL, LARGE])
    activations = [record(model, compute, settings, shape).kept for shape in (SMALL, LARGE)]
    assert both - small == pytest.approx((activations[1] - activations[0]) / 1e9, abs=0.02)
    trained = sum(each.numel() for each in model.learner.parameters)
    many = Shape((64, 64), 99)
    assert predicted_peak_gb(model, compute, settings, [many, LARGE]) > both, "the batch counts too"
    assert small > (activations[0] + trained * 12) / 1e9
