"""Models shared out among processes: what cannot be with them, and that whole tensors are treated as before.

What slices do takes processes: tests/trust/test_sharding.py.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

from library.errors import InputError
from library.settings import read_settings
from library.train import sharding
from library.train.sharding import (
    check_sharding,
    gathered,
    is_sharded,
    padded,
    shorten,
    spread_state,
    take_over,
    total_norm,
)
from library.train.step import made_up_batch
from tests.runs import WHOLE

WRONG = {
    "mixed_precision = fp16": {"mixed_precision": "fp16"},
    "full_bf16": {"full_bf16": True, "mixed_precision": "bf16"},
    "fused_backward_pass": {"fused_backward_pass": True, "max_grad_norm": 0},
    "compile": {"compile": "regional"},
    "cuda_graphs": {"cuda_graphs": True},
    "channels_last": {"channels_last": True},
    'memory = "auto"': {"memory": "auto"},
    "dry_run": {"dry_run": True},
    "ema_device = cpu": {"ema": True, "ema_device": "cpu"},
    "optimizer_type = Adafactor": {"optimizer_type": "Adafactor"},
}


@pytest.fixture
def settings_of_all(bench):
    """Settings of a run that trains all weights."""
    return lambda **changes: read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth")


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_refused(settings_of_all, compute, name: str) -> None:
    settings = settings_of_all(**WRONG[name])
    check_sharding(settings, compute)
    with pytest.raises(InputError) as refusal:
        check_sharding(settings, replace(compute, shards=True))
    assert len(refusal.value.sentences) == 1
    assert refusal.value.sentences[0].startswith(name) and "does not work with FSDP" in str(refusal.value)


def test_what_is_asked_of_the_launcher(settings_of_all, compute, monkeypatch) -> None:
    shards = replace(compute, shards=True)
    check_sharding(settings_of_all(ema=True, gradient_checkpointing=True), shards)
    check_sharding(settings_of_all(selective_checkpointing=True), shards)
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(InputError, match="fsdp_offload_params"):
        check_sharding(settings_of_all(), shards)


def test_whole_tensors_are_treated_as_torch_does() -> None:
    made = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2, 2))]
    for number, parameter in enumerate(made, 2):
        parameter.grad = torch.full_like(parameter, float(number))
    assert not any(map(is_sharded, made))
    norm = total_norm([each.grad for each in made])
    assert norm == pytest.approx((3 * 4 + 4 * 9) ** 0.5)
    shorten(made, 1.0, norm)
    assert total_norm([each.grad for each in made]) == pytest.approx(1.0, abs=1e-5)
    take_over(made[0].data, torch.ones(3))
    assert made[0].tolist() == [1, 1, 1]
    state = {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}
    assert spread_state(state, made) == state
    table = {"a": made[0]}
    with gathered([table], True):
        assert table == {"a": made[0]}


@pytest.mark.parametrize("held", [0, 1, 3])
def test_every_process_has_as_many_batches(compute, monkeypatch, held: int) -> None:
    monkeypatch.setattr(sharding.torch.distributed, "all_reduce", lambda count, *_: count.fill_(3))
    mine = [made_up_batch(((64, 64), 2), 4, compute.device)] * held
    found = padded(mine, 4, compute)
    assert len(found) == 3 and found[:held] == mine
    assert all(batch.weights.sum() == 0 for batch in found[held:])
