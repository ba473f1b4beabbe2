"""A step on a device that is not the CPU: nothing of it is left behind on the CPU, and nothing is asked of the device.

The device is torch's "meta", whose tensors have no data: a tensor elsewhere beside them, or a question for a number,
is an error there as it is a mistake or a wait on a GPU.
"""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from library.lookup import ADAPTERS
from library.models.family import Family, open_family
from library.settings import Settings, read_settings
from library.train.model import build_model
from library.train.objective import make_objective
from library.train.step import Batch
from library.train.training import Training
from tests.runs import WHOLE
from tests.toy_families import write_toy
from tests.train.test_recorded import CAPTIONS, batch_of

META = torch.device("meta")


@pytest.fixture(autouse=True)
def a_device_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta tensors know no autocast, and cannot come back to the CPU, where frozen encoders go when they have read."""
    autocast, is_on, to = torch.autocast, torch.is_autocast_enabled, nn.Module.to

    def stays(self: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        return self if args and str(args[0]) == "cpu" else to(self, *args, **kwargs)

    def no_autocast(kind: str, *args: Any, **kwargs: Any) -> Any:
        return nullcontext() if kind == "meta" else autocast(kind, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", no_autocast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *kind: kind != ("meta",) and is_on(*kind))
    monkeypatch.setattr(nn.Module, "to", stays)
    monkeypatch.setattr(transformers.PreTrainedModel, "to", stays)


def to_meta(batch: Batch, sized: bool) -> Batch:
    """A batch that has come to the device."""
    there = {name: getattr(batch, name) for name in ("mean", "logvar", "weights", "mask")}
    sizes = torch.zeros(len(batch.draws), 6, device=META) if sized else None
    return replace(
        batch, sizes=sizes, **{name: each if each is None else each.to(META) for name, each in there.items()}
    )


def take_a_step(settings: Settings, family: Family, compute: Any) -> None:
    """A step of two batches, one of them with a mask."""
    compute = replace(compute, device=META)
    model = build_model(settings, family, compute, 4, ["", *CAPTIONS])
    training = Training(model, None, make_objective(settings, family, compute), None, compute, 7)
    batches = [batch_of(1, (64, 64), 2, masked) for masked in (False, True)]
    loss, norm = training.step(0, [to_meta(batch, family.takes_sizes) for batch in batches])
    assert loss.device == norm.device == META


# Adapters whose start values are computed from the weights need some.
KINDS = sorted(set(ADAPTERS) - {"pissa"})
CASES: list[dict[str, Any]] = [
    *({"network_module": kind} for kind in KINDS),
    {"network_args": ["conv_dim=4"], "network_dropout": 0.1, "scale_weight_norms": 1.0},
    {"network_train_unet_only": True, "min_snr_gamma": 5, "noise_offset": 0.1, "loss_type": "huber", "ema": True},
    {"multires_noise_iterations": 3, "ip_noise_gamma": 0.1, "debiased_estimation_loss": True},
    {"prior_preservation": "self", "class_prompt": "b c", "weighted_captions": True, "max_token_length": 225},
    {"network_train_unet_only": True, "selective_checkpointing": True},
    {"gradient_checkpointing": True, "optimizer_type": "Lion"},
    {"fast_layers": False, "optimizer_type": "CAME"},
]


@pytest.mark.parametrize("changes", CASES, ids=lambda changes: " ".join(map(str, changes.values())))
def test_adapters(settings_of, family, compute, changes: dict) -> None:
    plain = {} if "optimizer_type" in changes else {"optimizer_args": ["fused=False"]}  # meta has no fused AdamW
    take_a_step(settings_of(**plain, **changes), family, compute)


@pytest.mark.parametrize("changes", [{}, {"train_text_encoder": True, "ema": True}, {"gradient_checkpointing": True}])
def test_all_weights(bench, family, compute, changes: dict) -> None:
    argv = bench.argv(**{**WHOLE, **changes, "optimizer_args": ["fused=False"]})
    take_a_step(read_settings(argv, program="train_dreambooth"), family, compute)


def test_sdxl(tmp_path, settings_of, compute) -> None:
    model = write_toy(tmp_path, "sdxl")
    settings = settings_of(pretrained_model_name_or_path=model, optimizer_args=["fused=False"])
    take_a_step(settings, open_family(str(model)), compute)


def test_what_is_left_behind_is_noticed(settings_of, family, compute, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device does complain."""
    settings = settings_of(network_train_unet_only=True, optimizer_args=["fused=False"])
    monkeypatch.setattr("library.diffusion.schedule.Schedule.to", lambda self, device: self)
    with pytest.raises(RuntimeError, match="meta"):
        take_a_step(settings, family, compute)
