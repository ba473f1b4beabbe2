"""dry_run tells the whole plan, and trains and writes nothing."""

import re

import pytest

import train_network
from tests.runs import Bench, listing


def planned(bench: Bench, capsys: pytest.CaptureFixture[str], **changes: object) -> str:
    """What a dry run says."""
    before = listing(bench.pictures)
    assert train_network.main(bench.argv(dry_run=True, **changes)) == 0
    assert not bench.output.exists() and not bench.logs.exists()
    assert listing(bench.pictures) == before
    return capsys.readouterr().out


def peak(told: str) -> float:
    """The predicted memory in GB."""
    found = re.search(r"predicted peak memory while training: ([\d.]+) GB", told)
    assert found
    return float(found[1])


def test_the_plan(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    told = planned(bench, capsys, dataset_repeats=3, max_train_epochs=2, network_dim=2)
    assert f"{bench.pictures}: 4 pictures x 3, 4 captions" in told
    assert "buckets: 64x64: 12" in told
    assert "12 samples an epoch in batches of 2: 12 steps in 2 epochs of 6." in told
    counts = {part: int(number.replace(",", "")) for part, number in re.findall(r"(\w+): ([\d,]+) trained", told)}
    assert peak(told) > 0
    tensors = bench.train(max_train_steps=1, network_dim=2)
    for part, prefix in (("unet", "lora_unet"), ("text_encoder", "lora_te")):
        real = [each for name, each in tensors.items() if name.startswith(prefix) and not name.endswith("alpha")]
        assert counts[part] == sum(each.numel() for each in real)


def test_only_one_part(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    told = planned(bench, capsys, network_train_unet_only=True)
    assert "unet:" in told and "text_encoder:" not in told
    assert "in 192 layers" in told


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_any_precision_and_checkpointing(bench: Bench, capsys: pytest.CaptureFixture[str], precision: str) -> None:
    assert peak(planned(bench, capsys, mixed_precision=precision, gradient_checkpointing=True)) > 0
