"""Passes played back from recordings: the same weights as without, whatever differs from batch to batch.

There is no GPU to record here. A tape of operations has the same laws: what is played back is the operations on the
tensors that they were first done on, and nothing that Python said in between.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from library import log
from library.diffusion.schedule import Schedule
from library.errors import InputError
from library.seeds import derive_seed
from library.settings import read_settings
from library.train.model import build_model
from library.train.objective import make_objective
from library.train.recorded import Recording, check_graphs, open_recording
from library.train.step import Batch
from library.train.training import Training
from tests.runs import WHOLE

CAPTIONS = ["a", "b c"]


class Operations(TorchDispatchMode):
    """Takes down each operation, with the tensors that it was done on and those that came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing\nand more words")
        result = operation(*args, **(kwargs or {}))
        self.done.append((operation, args, kwargs or {}, result))
        return result

    def play(self) -> None:
        """Does all of it again, into the same tensors."""
        for operation, args, kwargs, result in self.done:
            again = operation(*args, **kwargs)
            pairs = zip(tensors(result), tensors(again), strict=True)
            for old, new in pairs:
                if old.data_ptr() != new.data_ptr():  # neither a view nor in place
                    old.copy_(new)


def tensors(result: object) -> list[Tensor]:
    found = result if isinstance(result, list | tuple) else [result]
    return [each for each in found if isinstance(each, Tensor)]


class Tape:
    """A recorder for the CPU."""

    def __init__(self) -> None:
        self.recorded = self.played = 0

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.recorded += 1
        work()
        with Operations() as operations:
            result = work()

        def play() -> None:
            self.played += 1
            with torch.no_grad():
                operations.play()

        return play, result


def batch_of(number: int, size: tuple[int, int], count: int, masked: bool = False) -> Batch:
    """Pictures that have nothing in common with those of another number."""
    draw = torch.Generator().manual_seed(number)
    mean, logvar = (torch.randn(count, 4, size[1] // 8, size[0] // 8, generator=draw) for _ in range(2))
    return Batch(
        mean=mean,
        logvar=logvar - 10,
        captions=[CAPTIONS[(number + place) % 2] for place in range(count)],
        weights=torch.rand(count, generator=draw),
        draws=[derive_seed(number, place) for place in range(count)],
        mask=torch.rand(count, 1, *mean.shape[2:], generator=draw) if masked else None,
        names=["a.png"] * count,
    )


STEPS = [
    [batch_of(1, (64, 64), 2)],
    [batch_of(2, (64, 64), 2), batch_of(3, (64, 128), 1)],
    [batch_of(4, (64, 128), 1), batch_of(5, (64, 64), 2), batch_of(6, (64, 64), 2)],
    [batch_of(7, (64, 64), 2, masked=True)],
    [batch_of(8, (64, 64), 2)],
]


@pytest.fixture
def train(settings_of, family, compute):
    """Losses, norms and weights of STEPS, by way of a recorder or without."""

    def _train(recorder: Any = None, **changes):
        settings = settings_of(network_train_unet_only=True, **changes)
        model = build_model(settings, family, compute, len(STEPS), ["", *CAPTIONS])
        recording = recorder and Recording(model.learner, recorder)
        training = Training(
            model, None, make_objective(settings, family, compute), None, compute, 7, recording=recording
        )
        told = [training.step(number, batches) for number, batches in enumerate(STEPS)]
        return torch.tensor(told), [each.detach().clone() for each in model.learner.parameters]

    return _train


CHANGES = [
    {},
    {"learning_rate": 1e-2, "max_grad_norm": 0.01, "lr_scheduler": "cosine", "lr_warmup_steps": 2},
    {"min_snr_gamma": 5, "noise_offset": 0.1, "loss_type": "huber"},
    {"network_module": "lokr", "network_args": ["factor=2"]},
    {"network_module": "dora", "fast_layers": False},
    {"selective_checkpointing": True},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: " ".join(changes) or "plain")
def test_the_same_as_without(train, changes: dict) -> None:
    told, weights = train(**changes)
    tape = Tape()
    told_again, recorded = train(tape, **changes)
    assert (tape.recorded, tape.played) == (3, sum(map(len, STEPS))), "one for each size, with a mask or without"
    assert torch.equal(told, told_again) and told.isfinite().all()
    assert all(torch.equal(one, other) for one, other in zip(weights, recorded, strict=True))
    assert any(each.abs().max() > 0 for each in weights)


def test_the_prior_adds_to_recorded_gradients(train) -> None:
    changes = {"prior_preservation": "self", "class_prompt": "b c", "prior_loss_weight": 0.5}
    told, weights = train(**changes)
    assert not torch.equal(told, train()[0])
    told_again, recorded = train(Tape(), **changes)
    assert torch.equal(told, told_again)
    assert all(torch.equal(one, other) for one, other in zip(weights, recorded, strict=True))


def test_all_weights(bench, family, compute) -> None:
    def trained(recorder: Tape | None) -> list[Tensor]:
        settings = read_settings(bench.argv(**WHOLE), program="train_dreambooth")
        model = build_model(settings, family, compute, len(STEPS), ["", *CAPTIONS])
        recording = recorder and Recording(model.learner, recorder)
        objective = make_objective(settings, family, compute)
        training = Training(model, None, objective, None, compute, 7, recording=recording)
        for number, batches in enumerate(STEPS[:3]):
            training.step(number, batches)
        return [each.detach().clone() for each in model.learner.parameters]

    pairs = zip(trained(None), trained(Tape()), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_what_cannot_be_recorded_is_computed_as_without(train, capsys, monkeypatch) -> None:
    """Said once, and the gradients of the pass that was tried do not count."""
    log.warn.cache_clear()
    told, weights = train()
    snr = Schedule.snr

    def with_a_question(self, timesteps: Tensor) -> Tensor:
        timesteps[0].item()
        return snr(self, timesteps)

    monkeypatch.setattr(Schedule, "snr", with_a_question)
    tape = Tape()
    told_again, recorded = train(tape)
    assert (tape.recorded, tape.played) == (1, 0)
    said = capsys.readouterr().err
    assert said.count("cuda_graphs: a step cannot be recorded (operation not permitted when stream is capturing);") == 1
    assert torch.equal(told, told_again)
    assert all(torch.equal(one, other) for one, other in zip(weights, recorded, strict=True))


def test_only_where_it_is_asked_for_and_there_is_a_gpu(settings_of) -> None:
    settings = settings_of(network_train_unet_only=True)
    nothing: Any = SimpleNamespace()
    assert open_recording(settings, nothing, torch.device("cpu")) is None
    check_graphs(settings, torch.device("cpu"))
    settings = settings_of(network_train_unet_only=True, cuda_graphs=True)
    check_graphs(settings, torch.device("cuda"))
    with pytest.raises(InputError, match=r"^cuda_graphs is for NVIDIA GPUs, and this run is on cpu; leave it out\.$"):
        check_graphs(settings, torch.device("cpu"))
