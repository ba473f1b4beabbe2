"""Rates of each part, one step of learning, and what a state brings back."""

import io
from itertools import pairwise

import pytest
import torch

from library.errors import InputError
from library.lookup import OPTIMIZERS
from library.settings import read_settings
from library.settings.embedding_checks import RATE_OF_FIRST
from library.train.learner import build_learner
from library.train.rates import check_learning, part_rates
from tests.runs import WHOLE


def learner_of(settings, learned, compute, steps: int):
    return build_learner(settings, learned, part_rates(settings), compute, steps)


def pull(learner, seed: int = 0) -> torch.Tensor:
    """One step towards random gradients; the norm of these."""
    generator = torch.Generator().manual_seed(seed)
    loss = sum((each * torch.randn(each.shape, generator=generator)).sum() for each in learner.parameters)
    learner.backward(loss)
    return learner.step()


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


@pytest.mark.parametrize("changes", [{}, {"mixed_precision": "bf16"}, {"ema": True}])
def test_a_step_without_finite_gradients_is_left_out(settings_of, tiny, compute, changes: dict) -> None:
    """But the schedule goes on, as after any step; and the next step is as good as ever."""
    learner = learner_of(settings_of(skip_nonfinite_steps=1, lr_scheduler="linear", **changes), tiny, compute, 4)
    before, rate = tiny.state_dict(), learner.rates()["lr/unet"]
    learner.backward(sum(each.sum() for each in learner.parameters) * float("nan"))
    assert not torch.isfinite(learner.step())
    assert all(torch.equal(before[part], tensor) for part, tensor in tiny.state_dict().items())
    assert not learner.optimizer.state and learner.rates()["lr/unet"] < rate
    assert torch.isfinite(pull(learner))
    assert all(tensor.isfinite().all() for tensor in tiny.state_dict().values())
    assert not torch.equal(before["unet"], tiny.state_dict()["unet"])


def test_text_encoders_stop_at_a_step(settings_of, tiny, compute) -> None:
    """From there on they are frozen, gradients and all; the UNet and the rates' course go on."""
    settings = settings_of(stop_text_encoder_training=2, lr_scheduler="linear")
    learner = learner_of(settings, tiny, compute, steps=4)
    seen, text = [], tiny.matrices["text_encoder"]
    for seed in range(4):
        assert text.requires_grad == (seed < 2)
        seen.append(tiny.state_dict())
        loss = sum((each * (seed + 1)).sum() for each in tiny.matrices.values())
        learner.backward(loss)
        learner.step()
    moved = [not torch.equal(one["text_encoder"], other["text_encoder"]) for one, other in pairwise(seen)]
    assert moved == [True, True, False]
    assert not torch.equal(seen[2]["unet"], seen[3]["unet"])
    assert learner.rates() == {"lr/unet": 0, "lr/text_encoder": 0}
    again = learner_of(settings, type(tiny)("unet", "text_encoder"), compute, steps=4)
    again.restore(learner.weights(), learner.state())
    assert not again.learned.matrices["text_encoder"].requires_grad


def test_averages_of_the_optimizers_own(settings_of, tiny, compute) -> None:
    """What is looked at is the average; what learns on, and goes into the state, is where gradients are taken."""
    settings = settings_of(optimizer_type="AdamWScheduleFree")
    learner = learner_of(settings, tiny, compute, 6)
    for seed in range(3):
        pull(learner, seed)
    learning = tiny.state_dict()
    with learner.averaged():
        seen = tiny.state_dict()
    assert not torch.equal(seen["unet"], learning["unet"])
    for part, before in learning.items():
        assert torch.equal(tiny.matrices[part], before)
        z = learner.optimizer.state[tiny.matrices[part]]["z"]
        torch.testing.assert_close(0.9 * seen[part] + 0.1 * z, before)
    weights, state = learner.weights(), learner.state()
    again = learner_of(settings, type(tiny)("unet", "text_encoder"), compute, 6)
    again.restore(weights, {key: torch_copy(value) for key, value in state.items()})
    for each in (learner, again):
        pull(each, 4)
    for one, other in zip(learner.parameters, again.parameters, strict=True):
        assert torch.equal(one, other)
    with learner_of(settings_of(), tiny, compute, 6).averaged():
        assert torch.equal(tiny.matrices["unet"], learner.parameters[0])
def test_text_encoders_must_begin_before_they_stop(settings_of, tiny, compute) -> None:
    def built(stop: int):
        settings = settings_of(stop_text_encoder_training=stop)
        spans = {part: range(2, 6) for part in tiny.layers}
        return build_learner(settings, tiny, part_rates(settings), compute, 6, spans)

    assert built(3).spans == {"unet": range(2, 6), "text_encoder": range(2, 3)}
    with pytest.raises(InputError, match="training = 2 comes before the text encoder's first step, 2 by ti_steps"):
        built(2)


def test_an_average_goes_along(settings_of, tiny, compute) -> None:
    settings = settings_of(ema=True, ema_decay=0.5, ema_device="cpu")
    learner = learner_of(settings, tiny, compute, 6)
    for seed in range(3):
        pull(learner, seed)
    average = learner.averages.averages[0].clone()
    assert not torch.equal(average, tiny.matrices["unet"]) and not torch.equal(average, torch.full((2, 2), 0.5))
    weights, state = learner.weights(), learner.state()
    again = learner_of(settings, type(tiny)("unet", "text_encoder"), compute, 6)
    again.restore(weights, {key: torch_copy(value) for key, value in state.items()})
    for each in (learner, again):
        pull(each, 4)
    for one, other in zip(learner.averages.averages, again.averages.averages, strict=True):
        assert torch.equal(one, other)
    assert learner_of(settings_of(), tiny, compute, 6).averages is None


@pytest.fixture
def whole(bench, compute):
    """A learner of two matrices under settings of train_dreambooth.py."""

    def _whole(learned, steps: int = 6, **changes):
        settings = read_settings(bench.argv(**{**WHOLE, "train_text_encoder": True, **changes}), "train_dreambooth")
        return learner_of(settings, learned, compute, steps)

    return _whole


@pytest.mark.parametrize("clip", [0, 0.5])
def test_bf16_weights_resume_exactly(whole, tiny, clip: float) -> None:
    def fresh():
        learned = type(tiny)("unet", "text_encoder")
        for matrix in learned.matrices.values():
            matrix.data = matrix.data.to(torch.bfloat16)
        return learned

    options = {"full_bf16": True, "mixed_precision": "bf16", "max_grad_norm": clip, "lr_scheduler": "cosine"}
    learner = whole(fresh(), **options)
    for seed in range(3):
        norm = pull(learner, seed)
        assert norm > 1 and all(each.grad is None for each in learner.parameters)
    again = whole(fresh(), **options)
    again.restore(learner.weights(), {key: torch_copy(value) for key, value in learner.state().items()})
    for seed in range(3, 6):
        assert torch.equal(pull(learner, seed), pull(again, seed))
    for one, other in zip(learner.parameters, again.parameters, strict=True):
        assert one.dtype == torch.bfloat16 and torch.equal(one, other)


def test_rounding_is_the_same_without_a_batch(whole, tiny) -> None:
    """A process that has none in a step rounds as the others do, which count the step by the schedule."""
    learner = whole(tiny, full_bf16=True, mixed_precision="bf16")
    for step in range(3):
        assert learner.one_by_one.number == step
        learner.step()
    again = whole(tiny, full_bf16=True, mixed_precision="bf16")
    again.restore(learner.weights(), learner.state())
    assert again.one_by_one.number == 3


def test_steps_in_the_backward_pass_are_the_same_steps(whole, tiny) -> None:
    other = type(tiny)("unet", "text_encoder")
    plain = whole(tiny, max_grad_norm=0, stop_text_encoder_training=2)
    fused = whole(other, max_grad_norm=0, stop_text_encoder_training=2, fused_backward_pass=True)
    for seed in range(4):
        norms = []
        for learner in (plain, fused):
            learning = [each for each in learner.parameters if each.requires_grad]
            assert len(learning) == (2 if seed < 2 else 1)
            generator = torch.Generator().manual_seed(seed)
            learner.backward(sum((each * torch.randn(each.shape, generator=generator)).sum() for each in learning))
            norms.append(learner.step())
        torch.testing.assert_close(*norms)
    for part in tiny.matrices:
        assert torch.equal(tiny.matrices[part], other.matrices[part])


def test_several_processes_cannot_step_in_the_backward_pass(bench) -> None:
    settings = read_settings(bench.argv(**WHOLE, fused_backward_pass=True, max_grad_norm=0), "train_dreambooth")
    check_learning(settings, processes=1)
    with pytest.raises(InputError, match="fused_backward_pass cannot be set with 2 processes"):
        check_learning(settings, processes=2)


# RAdam takes no step in the first four.
TAKE_TURNS = [name for name in OPTIMIZERS if name not in (*RATE_OF_FIRST, "RAdamScheduleFree")]


@pytest.mark.parametrize("optimizer", TAKE_TURNS)
def test_a_part_learns_in_its_steps_alone(settings_of, tiny, compute, optimizer: str) -> None:
    rate = 1.0 if optimizer.startswith(("Prodigy", "DAdapt")) else 0.1
    settings = settings_of(optimizer_type=optimizer, learning_rate=rate)
    spans = {"text_encoder": range(2), "unet": range(1, 4)}
    learner = build_learner(settings, tiny, {"unet": rate, "text_encoder": rate}, compute, 5, spans)
    turns = []
    for seed in range(4):
        before = tiny.state_dict()
        learns = {part: matrix.requires_grad for part, matrix in tiny.matrices.items()}
        pull(learner, seed)
        now = tiny.state_dict()
        moved = {part: not torch.equal(before[part], now[part]) for part in now}
        assert moved == learns
        turns.append("".join(part[0] for part in sorted(moved) if moved[part]))
    assert turns == ["t", "tu", "u", "u"]
    assert not any(matrix.requires_grad for matrix in learner.parameters) and len(learner.parameters) == 2
