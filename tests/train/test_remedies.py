"""What a run may change to take less memory: the order, the same effective batches, and that each step takes less."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.epochs import Shape
from library.settings import DatasetTable, SubsetTable, read_settings
from library.settings.fields import Settings
from library.train import memory, remedies
from library.train.model import build_model
from library.train.remedies import advice, change_in_words, thriftier, thrifty_peak_gb, usable_gb
from library.train.state import State, save_state
from tests.runs import WHOLE

SHAPES = [Shape((64, 64), 4), Shape((128, 128), 4)]


@pytest.fixture(autouse=True)
def an_empty_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process held nothing yet, so that only what a step takes is counted."""
    nothing = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=0))
    monkeypatch.setattr(memory, "psutil", SimpleNamespace(Process=lambda: nothing))


@pytest.fixture
def whole(bench, family, compute):
    """Settings and model of a run that trains all weights."""

    def _build(**changes):
        settings = read_settings(bench.argv(**{**WHOLE, "train_batch_size": 4, **changes}), program="train_dreambooth")
        return settings, build_model(settings, family, compute, 4, ["", "a"])

    return _build


def steps(settings: Settings, compute) -> list[str]:
    """The words of each candidate after the first."""
    first, *others = thriftier(settings, compute)
    assert first == settings
    return [change_in_words(settings, each) for each in others]


def test_the_order_of_least_harm(settings_of, compute) -> None:
    assert steps(settings_of(train_batch_size=4, gradient_accumulation_steps=3), compute) == [
        "selective_checkpointing = true",
        "gradient_checkpointing = true",
        "gradient_checkpointing = true and optimizer_type = AdamW8bit",
        "gradient_checkpointing = true, train_batch_size = 2 and gradient_accumulation_steps = 6",
        "gradient_checkpointing = true, optimizer_type = AdamW8bit, train_batch_size = 2 and "
        "gradient_accumulation_steps = 6",
        "gradient_checkpointing = true, train_batch_size = 1 and gradient_accumulation_steps = 12",
        "gradient_checkpointing = true, optimizer_type = AdamW8bit, train_batch_size = 1 and "
        "gradient_accumulation_steps = 12",
    ]


def test_what_is_done_already_is_not_done_again(settings_of, compute) -> None:
    thrifty = settings_of(train_batch_size=1, gradient_checkpointing=True, optimizer_type="AdamW8bit")
    assert steps(thrifty, compute) == []
    assert steps(settings_of(train_batch_size=1, optimizer_type="Prodigy", learning_rate=1), compute) == [
        "selective_checkpointing = true",
        "gradient_checkpointing = true",
    ]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(1, 12), st.integers(1, 5))
def test_effective_batches_stay(sizes: list[int], flat: int, accumulation: int) -> None:
    """Of every folder exactly, whatever its own batch size."""
    tables = tuple(DatasetTable(batch_size=None if size == 12 else size) for size in sizes)
    settings = Settings(train_batch_size=flat, gradient_accumulation_steps=accumulation, datasets=tables)
    for parts in remedies._divisors(flat if not tables else remedies.math.gcd(*remedies._batch_sizes(settings))):
        cut = remedies._cut(settings, parts)
        before = [size * accumulation for size in remedies._batch_sizes(settings)]
        assert [size * cut.gradient_accumulation_steps for size in remedies._batch_sizes(cut)] == before


def test_tables_are_told(settings_of, compute, bench) -> None:
    tables = tuple(DatasetTable(batch_size=size, subsets=(SubsetTable(image_dir=bench.pictures),)) for size in (2, 4))
    settings = replace(settings_of(), datasets=tables, train_data_dir=None, train_batch_size=7)
    told = steps(settings, compute)[-2]
    assert told == (
        "gradient_checkpointing = true, gradient_accumulation_steps = 2, batch_size = 1 instead of 2 in [[datasets]] "
        "and batch_size = 2 instead of 4 in [[datasets]]"
    )


def test_what_the_settings_forbid_is_left_out(whole, compute) -> None:
    """fused_backward_pass accumulates nothing."""
    settings, _ = whole(fused_backward_pass=True, max_grad_norm=0)
    assert not any("accumulation" in words for words in steps(settings, compute))


def test_mistakes_that_are_there_anyway_forbid_nothing(settings_of, compute, tmp_path: Path) -> None:
    """What the settings name may have gone since they were read."""
    settings = replace(settings_of(), train_data_dir=tmp_path / "gone")
    assert len(steps(settings, compute)) > 1


def test_eight_bits_only_where_they_work(settings_of, compute, monkeypatch) -> None:
    def fails(*_):
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(remedies, "state_bytes", fails)
    assert not any("8bit" in words for words in steps(settings_of(), compute))
    assert not any("8bit" in words for words in steps(settings_of(optimizer_args=["fused=True"]), compute))


def test_a_run_that_goes_on_keeps_its_optimizer(settings_of, compute, tmp_path: Path) -> None:
    folder = tmp_path / "toy-state"
    save_state(folder, State({}, {}, {"step": 1}, {"optimizer_type": "AdamW"}))
    told = steps(settings_of(resume=folder), compute)
    assert told and not any("8bit" in words for words in told)


def test_each_takes_less(whole, compute) -> None:
    """Of all weights, where the optimizer's state weighs as much as the batches."""
    settings, model = whole()
    candidates = list(thriftier(settings, compute))
    peaks = [thrifty_peak_gb(model, compute, settings, each, SHAPES) for each in candidates]
    assert model.unet.is_gradient_checkpointing
    plain, selective, checkpointed, eight, half, half_eight, *_ = peaks
    assert plain > max(selective, checkpointed) and checkpointed > eight and checkpointed > half > half_eight
    built = whole(gradient_checkpointing=True, train_batch_size=2, gradient_accumulation_steps=2)
    halves = [shape._replace(batch_size=2) for shape in SHAPES]
    assert half == memory.predicted_peak_gb(built[1], compute, built[0], halves), "as if it had been built so"


def test_advice_names_the_first_that_fits(whole, compute) -> None:
    settings, model = whole()
    peaks = [thrifty_peak_gb(whole()[1], compute, settings, each, SHAPES) for each in thriftier(settings, compute)]
    told = advice(model, compute, settings, SHAPES, peaks[1])
    assert told.startswith(f"{peaks[1]:.2f} GB are predicted with selective_checkpointing = true; set that")
    told = advice(model, compute, settings, SHAPES, min(peaks) * 0.9)
    assert told.startswith(f"at least {min(peaks):.2f} GB are predicted whatever")


def test_a_tenth_is_left_free(compute) -> None:
    assert 0 < usable_gb(compute.device) < 0.95 * remedies.memory_room_gb(compute.device)
