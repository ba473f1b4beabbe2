"""The compiled model: what it learns is what the plain one learns, and no failure to compile ends a run."""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from library.log import warn
from library.train.compiling import uncompiled
from tests.runs import Bench, assert_same, largest_difference, run_to_the_end

LONG = pytest.mark.long  # the same under another name, read in tests/settings


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> Iterator[None]:
    """What compiling changes in torch, put back, and what was compiled, forgotten."""
    import torch._inductor.config
    from torch._dynamo.utils import counters

    dynamo, inductor = torch._dynamo.config, torch._inductor.config
    logger = logging.getLogger("torch._dynamo.convert_frame")
    kept = dynamo.suppress_errors, dynamo.recompile_limit, dynamo.accumulated_recompile_limit, inductor.fallback_random
    filters = list(logger.filters)
    torch._dynamo.reset()
    counters.clear()
    warn.cache_clear()
    yield
    dynamo.suppress_errors, dynamo.recompile_limit, dynamo.accumulated_recompile_limit, inductor.fallback_random = kept
    logger.filters[:] = filters
    torch._dynamo.reset()


def compiled_graphs() -> int:
    """How many pieces of the model were compiled since the last reset."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@pytest.fixture
def traced_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are found and differentiated as ever, but then computed by torch's own operations, which is quick."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


def test_the_same_is_learned(bench: Bench) -> None:
    _compare(bench, {"network_train_unet_only": True}, {"compile": "regional"})


@pytest.mark.usefixtures("traced_alone")
@pytest.mark.parametrize(
    "word",
    [pytest.param({"compile": "full"}, id="full"), pytest.param({"torch_compile": True}, id="sd-scripts", marks=LONG)],
)
def test_the_same_is_learned_of_everything(bench: Bench, word: dict[str, Any]) -> None:
    _compare(bench, {"network_dropout": 0.2, "sample_every_n_steps": 2}, word)


def _compare(bench: Bench, same: dict[str, Any], word: dict[str, Any]) -> None:
    """Trains with and without compiling, and compares."""
    plain, fast = bench.at("plain"), bench.at("fast")
    expected = plain.train(**same)
    assert compiled_graphs() == 0
    learned = fast.train(**same, **word)
    assert compiled_graphs() > 0
    assert fast.losses() == pytest.approx(plain.losses(), rel=1e-4)
    # Adam makes a whole step of a gradient that is nothing but rounding, so single numbers may differ by some.
    assert largest_difference(learned, expected) < 0.01


@pytest.mark.usefixtures("traced_alone")
def test_blocks_are_compiled_with_gradient_checkpointing(bench: Bench) -> None:
    same = {"network_train_unet_only": True, "gradient_checkpointing": True}
    plain, fast = bench.at("plain"), bench.at("fast")
    plain.train(**same)
    fast.train(**same, compile="regional")
    assert compiled_graphs() > 0
    assert fast.losses() == pytest.approx(plain.losses(), rel=1e-4)


def test_a_dry_run_compiles_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_to_the_end(bench.argv(compile="full", dry_run=True)) == 0
    said = capsys.readouterr().out
    assert run_to_the_end(bench.argv(dry_run=True)) == 0
    peaks = [next(line for line in text.splitlines() if "memory" in line) for text in (said, capsys.readouterr().out)]
    assert compiled_graphs() == 0 and all(peaks)


def test_a_failure_costs_a_sentence(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    # Layers that are to be compiled are not computed as one, which is rounded otherwise.
    with monkeypatch.context() as patch:
        patch.setattr("library.train.model.use_shared_products", lambda _: [])
        expected = bench.at("plain").train()

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("there is no compiler here.\nAnd a page of explanations.")

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", fail)
    capsys.readouterr()
    assert_same(bench.at("fast").train(compile="regional"), expected)
    said = capsys.readouterr().err
    assert said.count("cannot be compiled (") == 1 and "there is no compiler here" in said
    assert "page of explanations" not in said and "Traceback" not in said
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_is_rare_is_not_compiled_for() -> None:
    layer = torch.nn.Linear(2, 2)
    layer.compile(dynamic=False)
    with uncompiled():
        layer(torch.zeros(1, 2))
    assert compiled_graphs() == 0
    layer(torch.zeros(1, 2))
    assert compiled_graphs() == 1
