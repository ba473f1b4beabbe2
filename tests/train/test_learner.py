"""Rates of each part, one step of learning, and what a state brings back."""

import io

import pytest
import torch

from library.errors import InputError
from library.train.learner import build_learner, check_learning, part_rates, warmup_steps


def learner_of(settings, learned, compute, steps: int):
    return build_learner(settings, learned, part_rates(settings), compute, steps)


def pull(learner, seed: int = 0) -> torch.Tensor:
    """One step towards random gradients; the norm of these."""
    generator = torch.Generator().manual_seed(seed)
    loss = sum((each * torch.randn(each.shape, generator=generator)).sum() for each in learner.parameters)
    learner.backward(loss)
    return learner.step()


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, {"unet": 0.01, "text_encoder": 0.01}),
        ({"unet_lr": 0.1}, {"unet": 0.1, "text_encoder": 0.01}),
        ({"text_encoder_lr": 0}, {"unet": 0.01}),
        ({"network_train_unet_only": True, "text_encoder_lr": 0.5}, {"unet": 0.01}),
        ({"network_train_text_encoder_only": True, "text_encoder_lr": 0.5}, {"text_encoder": 0.5}),
        ({"learning_rate": 0, "unet_lr": 0.2}, {"unet": 0.2}),
    ],
)
def test_rates_of_parts(settings_of, changes, rates) -> None:
    assert part_rates(settings_of(**changes)) == rates


def test_wrong_arguments_are_found_early(settings_of) -> None:
    check_learning(settings_of(optimizer_args=["weight_decay=0.1"]))
    with pytest.raises(InputError, match='no argument "weight_decai".*"weight_decay"'):
        check_learning(settings_of(optimizer_args=["weight_decai=0.1"]))


@pytest.mark.parametrize(("given", "steps"), [(0, 0), (3, 3), (0.25, 10), (0.01, 0)])
def test_warmup(settings_of, given, steps: int) -> None:
    assert warmup_steps(settings_of(max_train_steps=40, lr_warmup_steps=given), 40) == steps


def test_a_step_moves_and_clips(settings_of, tiny, compute) -> None:
    rough = {"optimizer_type": "SGDNesterov", "optimizer_args": ["momentum=0.0", "nesterov=False"], "learning_rate": 1}
    free = learner_of(settings_of(**rough, max_grad_norm=0), tiny, compute, 4)
    norm = pull(free)
    moved = torch.cat([(0.5 - each).flatten() for each in free.parameters])
    torch.testing.assert_close(moved.norm(), norm)
    assert all(each.grad is None for each in free.parameters)

    tiny.load({part: torch.full((2, 2), 0.5) for part in tiny.layers})
    clipped = learner_of(settings_of(**rough, max_grad_norm=0.25), tiny, compute, 4)
    assert torch.equal(pull(clipped), norm)  # told as it was
    moved = torch.cat([(0.5 - each).flatten() for each in clipped.parameters])
    assert moved.norm().item() == pytest.approx(0.25, rel=1e-4)


def test_rates_follow_the_schedule(settings_of, tiny, compute) -> None:
    settings = settings_of(unet_lr=0.1, lr_scheduler="linear", lr_warmup_steps=1)
    learner = learner_of(settings, tiny, compute, steps=3)
    seen = []
    for _ in range(3):
        seen.append(learner.rates())
        pull(learner)
    assert [rates["lr/unet"] for rates in seen] == pytest.approx([0, 0.1, 0.05])
    assert [rates["lr/text_encoder"] for rates in seen] == pytest.approx([0, 0.01, 0.005])


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_state_goes_on_exactly(settings_of, tiny, compute, precision: str) -> None:
    settings = settings_of(lr_scheduler="cosine", mixed_precision=precision)
    learner = learner_of(settings, tiny, compute, steps=6)
    for seed in range(3):
        pull(learner, seed)
    weights, state = tiny.state_dict(), learner.state()
    again = learner_of(settings, type(tiny)("unet", "text_encoder"), compute, steps=6)
    again.restore(weights, {key: torch_copy(value) for key, value in state.items()})
    assert again.rates() == learner.rates()
    for seed in range(3, 6):
        pull(learner, seed)
        pull(again, seed)
    for one, other in zip(learner.parameters, again.parameters, strict=True):
        assert torch.equal(one, other)
    assert learner.scaler.get_scale() == again.scaler.get_scale()


def torch_copy(value):
    """Through a file, as a state goes."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_precision_may_change_on_the_way(settings_of, tiny, compute) -> None:
    plain = learner_of(settings_of(), tiny, compute, 4)
    half = learner_of(settings_of(mixed_precision="fp16"), tiny, compute, 4)
    before = half.scaler.get_scale()
    half.restore(tiny.state_dict(), plain.state())
    assert half.scaler.get_scale() == before
    plain.restore(tiny.state_dict(), half.state())


def test_an_overflow_leaves_the_weights(settings_of, tiny, compute) -> None:
    learner = learner_of(settings_of(mixed_precision="fp16"), tiny, compute, 4)
    before, scale = tiny.state_dict(), learner.scaler.get_scale()
    learner.backward(sum(each.sum() for each in learner.parameters) * float("inf"))
    assert not torch.isfinite(learner.step())
    assert all(torch.equal(before[part], tensor) for part, tensor in tiny.state_dict().items())
    assert learner.scaler.get_scale() == scale / 2
