"""What a dry run says."""

from types import SimpleNamespace

import pytest
import torch

from library.train import dry_run
from library.train.dry_run import describe_run
from library.train.plan import make_plan


def test_every_part_is_told(settings_of, dataset_of, compute, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = []
    monkeypatch.setattr(dry_run, "predicted_peak_gb", lambda *rest: shapes.extend(rest[-1]) or 1.234)
    network = SimpleNamespace(
        layers={"unet": {"a": 1, "b": 2}, "text_encoder": {"c": 3}},
        parameters=lambda part: [torch.empty({"unet": 1234567, "text_encoder": 89}[part], device="meta")],
    )
    monkeypatch.setattr(dry_run, "output_bytes", lambda *_: 56_700_000)
    model = SimpleNamespace(learner=SimpleNamespace(learned=network))
    settings, dataset = settings_of(), dataset_of(3, wide=1)
    assert describe_run(settings, model, compute, dataset, make_plan(settings, dataset, 1)) == 0
    told = capsys.readouterr().out
    assert "unet: 1,234,567 trained parameters in 2 layers." in told
    assert "text_encoder: 89 trained parameters in 1 layers." in told
    assert f"predicted peak memory while training: 1.23 GB on {compute.device.type}." in told
    assert "predicted room for files and states: 57 MB." in told
    assert "nothing was trained or written" in told
    assert shapes == [((128, 128), 2), ((256, 64), 2)]
    assert "can be used there now" not in told
    monkeypatch.setattr(dry_run, "usable_gb", lambda device: 1.0)
    monkeypatch.setattr(dry_run, "advice", lambda *rest: f"take less than {rest[-1]}.")
    assert describe_run(settings, model, compute, dataset, make_plan(settings, dataset, 1)) == 0
    assert "only 1.00 GB can be used there now: take less than 1.0." in capsys.readouterr().out
