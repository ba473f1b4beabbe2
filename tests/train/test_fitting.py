"""memory = "auto": what it chooses, what it says, and that the choice is what the run is and goes on as."""

import math
import tomllib

import pytest
import torch

import train_dreambooth
import train_network
from library.errors import InputError
from library.settings import read_settings
from library.train import fitting
from library.train.data import open_datasets
from library.train.fitting import Trial, fit_memory
from library.train.remedies import thriftier
from library.train.retold import retold_settings
from tests.runs import WHOLE, Bench, assert_same, run_to_the_end
from tests.trust.together import run_together

FULL = {**WHOLE, "train_batch_size": 4, "memory": "auto"}


PEAKS = [7.0, 6.6, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]  # as if they were predicted for the candidates of FULL


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """Says what can be used, and instead of a prediction the candidate's place in PEAKS."""

    def _use(gigabytes: float) -> None:
        def peak(model, compute, settings, candidate, shapes) -> float:
            return PEAKS[list(thriftier(settings, compute)).index(candidate)]

        monkeypatch.setattr(fitting, "thrifty_peak_gb", peak)
        monkeypatch.setattr(fitting, "usable_gb", lambda device: gigabytes)

    return _use


def fitted(bench: Bench, family, compute, **changes):
    """What is chosen for FULL."""
    settings = read_settings(bench.argv(**{**FULL, **changes}), program="train_dreambooth")
    return settings, fit_memory(settings, family, compute)


def test_as_set_is_as_set(settings_of, family, compute, monkeypatch) -> None:
    monkeypatch.setattr(fitting, "open_datasets", None)
    settings = settings_of()
    assert settings.memory == "as_set" and fit_memory(settings, family, compute) is settings


def test_what_fits_stays(bench, family, compute, use, capsys) -> None:
    use(7.0)
    settings, chosen = fitted(bench, family, compute)
    assert chosen == settings
    told = 'memory = "auto": 7.00 GB are predicted and 7.00 GB can be used on cpu, so everything stays as it is set.'
    assert told in capsys.readouterr().out


@pytest.mark.parametrize("number", range(1, 8))
def test_the_first_that_fits(bench, family, compute, use, capsys, number: int) -> None:
    use(PEAKS[number] + 0.3)
    settings, chosen = fitted(bench, family, compute)
    assert chosen == list(thriftier(settings, compute))[number]
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert f"this run has {'selective' if number == 1 else 'gradient'}_checkpointing = true" in told
    assert f"with which {PEAKS[number]:.2f} GB are predicted; each step" in told


def test_nothing_fits(bench, family, compute, use) -> None:
    use(0.5)
    with pytest.raises(InputError) as refusal:
        fitted(bench, family, compute)
    told = str(refusal.value)
    assert told.startswith("memory: 7.00 GB are predicted for this run as it is set, still 1.00 GB with gradient_check")
    assert "train_batch_size = 1 and gradient_accumulation_steps = 4, and 0.50 GB can be used on cpu" in told
    assert told.endswith("or use another device, one with 1.1 GB free.")
    with pytest.raises(InputError) as refusal:
        done = {"train_batch_size": 1, "gradient_checkpointing": True, "optimizer_type": "AdamW8bit"}
        fitted(bench, family, compute, **done)
    assert "as it is set and 0.50 GB" in str(refusal.value)


class Measured:
    """A meter whose device holds something else than was predicted."""

    def __init__(self, monkeypatch, *found: float) -> None:
        self.found = list(found)
        monkeypatch.setattr(fitting, "meter_of", lambda device: self)

    def begin(self) -> None:
        """Nothing to forget."""

    def peak_gb(self) -> float:
        return self.found.pop(0)


def test_the_measure_has_the_last_word(bench, family, compute, use, monkeypatch, capsys) -> None:
    use(7.0)
    meter = Measured(monkeypatch, 99.0, 98.0, 0.25)
    settings, chosen = fitted(bench, family, compute)
    assert chosen == list(thriftier(settings, compute))[2] and not meter.found
    assert "with which 0.25 GB are measured" in capsys.readouterr().out
    for last, words in ((90.0, "take 90.00 GB with gradient_check"), (math.inf, "take more than there is with grad")):
        Measured(monkeypatch, *[99.0] * 7, last)
        with pytest.raises(InputError, match=f"memory: steps of this run {words}"):
            fitted(bench, family, compute)


def test_the_probe_begins_where_the_prediction_ends(bench, family, compute, use, monkeypatch) -> None:
    use(6.0)
    meter = Measured(monkeypatch, 0.001)
    chosen = fitted(bench, family, compute)[1]
    assert chosen.gradient_checkpointing and chosen.optimizer_type == "AdamW" and not meter.found


def test_encoders_that_stay_are_counted(settings_of, family, compute, monkeypatch) -> None:
    for remembered, stays in ((1, True), (99, False)):
        monkeypatch.setattr(fitting, "REMEMBERED", remembered)
        settings = settings_of(network_train_unet_only=True)
        model = Trial(family, compute, open_datasets(settings))._model(settings)
        assert model.reader.stays is stays


NEW_WORD = {"token_string": "<new>", "init_word": "thing", "trigger_words": "<new>", "network_train_unet_only": True}


@pytest.mark.parametrize("changes", [{}, NEW_WORD], ids=["plain", "new word"])
def test_it_changes_no_bit_where_all_fits(bench: Bench, changes: dict) -> None:
    one, other = bench.at("one"), bench.at("other")
    assert_same(one.train(memory="auto", **changes), other.train(**changes))


def test_the_choice_is_what_is_told_and_repeats_the_run(bench: Bench, use, capsys) -> None:
    """Files, metadata and the written settings say what was done; given back, they do the same without a choice."""
    use(5.0)
    first, again = bench.at("first"), bench.at("again")
    tensors = first.train_all(**FULL)
    assert "so this run has gradient_checkpointing = true and optimizer_type" in capsys.readouterr().out
    written = tomllib.loads((first.output / "toy.toml").read_text())
    assert written["training"]["gradient_checkpointing"] is True
    assert written["learning"]["optimizer_type"] == "AdamW8bit"
    metadata = first.metadata()
    assert metadata["ss_gradient_checkpointing"] == "True" and "AdamW8bit" in metadata["ss_optimizer"]
    assert "gradient_checkpointing = true" in retold_settings(metadata)
    use(999.0)
    places = [f"--{name}={path}" for name, path in (("output_dir", again.output), ("logging_dir", again.logs))]
    assert train_dreambooth.main([f"--config={first.output / 'toy.toml'}", *places]) == 0
    assert_same(again.tensors(), tensors)


def test_it_goes_on_where_there_is_more_memory(bench: Bench, use, monkeypatch, capsys) -> None:
    """What the choice rounds is part of the run; how it is computed is not."""
    run = {**FULL, "max_train_steps": 4, "save_every_n_steps": 2, "save_state": True}
    small, large = bench.at("small"), bench.at("large")
    use(3.0)
    unbroken = small.train_all(**run)
    monkeypatch.undo()
    capsys.readouterr()
    gone_on = large.train_all(**run, resume=small.output / "toy-step00000002-state")
    told = capsys.readouterr().out
    assert 'memory = "auto": AdamW8bit stays, as the run to go on with has it.' in told
    assert "stays as it is set" in told, "not cut here"
    assert "AdamW8bit" in large.metadata()["ss_optimizer"]
    worst = max((gone_on[name] - unbroken[name]).abs().max().item() for name in unbroken)
    moved = max((small.tensors("toy-step00000002")[name] - unbroken[name]).abs().max().item() for name in unbroken)
    assert worst < 0.05 * moved
    argv = small.argv(**{**run, "memory": "as_set", "max_train_steps": 6}, resume="auto")
    assert run_to_the_end(argv, train_dreambooth.main) == 2
    assert "optimizer_type was 'AdamW8bit' and is 'AdamW'" in capsys.readouterr().err


def test_it_goes_on_where_there_is_less(bench: Bench, use, capsys) -> None:
    """The optimizer stays; so the third candidate is batches cut in two."""
    run = {**FULL, "save_state": True}
    use(7.0)
    bench.train_all(**run)
    use(5.0)
    bench.train_all(**{**run, "max_train_steps": 6}, resume="auto")
    told = capsys.readouterr().out
    assert "gradient_checkpointing = true, train_batch_size = 2 and gradient_accumulation_steps = 2, with" in told
    assert "going on from" in told


def test_a_dry_run_tells_it(bench: Bench, use, capsys) -> None:
    use(6.0)
    assert train_dreambooth.main(bench.argv(**FULL, dry_run=True)) == 0
    told = capsys.readouterr().out
    assert "so this run has gradient_checkpointing = true" in told and "predicted peak memory" in told


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("can't allocate memory: 8 bytes")])
def test_full_memory_in_a_step_names_what_fits(bench: Bench, monkeypatch, capsys, error: Exception) -> None:
    def full(*_):
        raise error

    def peak(model, compute, settings, candidate, shapes) -> float:
        return PEAKS[list(thriftier(settings, compute)).index(candidate)]

    monkeypatch.setattr("library.train.training.Training._learn", full)
    monkeypatch.setattr("library.train.run.predicted_peak_gb", lambda *_: 5.1)
    monkeypatch.setattr("library.train.run.usable_gb", lambda _: 9.0)  # else the machine's other work counts
    monkeypatch.setattr("library.train.remedies.thrifty_peak_gb", peak)
    argv = bench.argv(**{**FULL, "memory": "as_set"})
    assert run_to_the_end(argv, train_dreambooth.main) == 1
    told = capsys.readouterr().err
    assert "the memory is full, and 5.10 GB are predicted for these settings; 4.00 GB are predicted with" in told
    assert "train_batch_size = 2 and gradient_accumulation_steps = 2; set that, or let memory" in told
    assert "Traceback" not in told


def test_advice_that_fails_hides_nothing(bench: Bench, monkeypatch, capsys) -> None:
    def full(*_):
        raise torch.OutOfMemoryError("no more of it")

    monkeypatch.setattr("library.train.training.Training._learn", full)
    monkeypatch.setattr("library.train.run.advice", full)
    assert run_to_the_end(bench.argv()) == 1
    told = capsys.readouterr().err
    assert "no more of it: the memory is full; gradient_checkpointing = true, " in told and "Traceback" not in told
    assert "train_batch_size = 1 and gradient_accumulation_steps = 2 would take least and learn from the same" in told
    thrifty = {"train_batch_size": 1, "gradient_checkpointing": True, "optimizer_type": "AdamW8bit"}
    assert run_to_the_end(bench.at("thrifty").argv(**thrifty)) == 1
    assert "no more of it: the memory is full; lower train_batch_size" in capsys.readouterr().err


def test_two_processes_agree(bench: Bench) -> None:
    told = run_together(bench.argv(memory="auto", train_batch_size=2), bench.folder)
    assert told.count('memory = "auto"') == 1 and "stays as it is set" in told
    assert run_to_the_end(bench.at("one").argv(memory="auto", train_batch_size=4), train_network.main) == 0
