"""Where is computed, in which numbers, and by how many."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
import torch

from library import device
from library.device import Compute, free_memory, memory_room_gb, peak_memory_gb, pick_device, start_compute
from library.errors import InputError


def test_one_process() -> None:
    compute = start_compute("no")
    assert (compute.rank, compute.world_size, compute.is_main) == (0, 1, True)
    assert compute.dtype == torch.float32
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert compute.device.type == "cpu"
    compute.wait()


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_mixed_precision(name: str, dtype: torch.dtype) -> None:
    compute = replace(start_compute(name), device=torch.device("cpu"))
    one = torch.ones(2, 2)
    with compute.autocast():
        assert (one @ one).dtype == dtype
    with replace(compute, dtype=torch.float32).autocast():
        assert (one @ one).dtype == torch.float32


def test_processes_that_do_not_see_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `accelerate launch --cpu --num_processes 2`, which starts what believes to be alone."""
    start_compute("no")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="started 2 processes, but accelerate sees 1.*--multi_gpu"):
        start_compute("no")


@pytest.mark.parametrize("word", device.SPLITTERS)
def test_what_would_be_passed_over_is_refused(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv(word, "true")
    with pytest.raises(InputError, match=f"asks for {device.SPLITTERS[word]}, which splits a model .*ddp.yaml"):
        start_compute("no")
    monkeypatch.setenv(word, "false")
    start_compute("no")


class TwoProcesses(Compute):
    """Two processes of which the other has the same numbers."""


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> TwoProcesses:
    """A Compute whose sums are twice its own numbers."""
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.mul_(2))
    return TwoProcesses(torch.device("cpu"), torch.float32, 1, 2, start_compute("no").state)


def parameters() -> list[torch.nn.Parameter]:
    """Three of different shapes; the last has no gradient."""
    made = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (4,), (2, 2))]
    for number, parameter in enumerate(made[:2], 1):
        parameter.grad = torch.full_like(parameter, float(number))
    return made


def test_gradients_are_added_up(two: Compute) -> None:
    mine = parameters()
    two.sum_gradients(mine)
    assert [each.grad.unique().tolist() for each in mine] == [[2.0], [4.0], [0.0]]
    assert [each.grad.shape for each in mine] == [each.shape for each in mine]
    assert not two.is_main


def test_gradients_go_in_pieces(two: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "TRANSFER", 5)
    assert [len(piece) for piece in device._pieces([torch.zeros(n) for n in (2, 2, 1, 7, 3)])] == [3, 1, 1]
    test_gradients_are_added_up(two)


def test_one_process_treats_a_missing_gradient_the_same_way() -> None:
    mine = parameters()
    start_compute("no").sum_gradients(mine)
    assert [each.grad.unique().tolist() for each in mine] == [[1.0], [2.0], [0.0]]


def test_flags_and_sums(two: Compute) -> None:
    one = start_compute("no")
    assert (one.any(True), one.any(False)) == (True, False)
    assert (two.any(True), two.any(False)) == (True, False)
    assert one.sum_over_processes(torch.tensor(3.0)) == 3
    assert two.sum_over_processes(torch.tensor(3.0)) == 6


def test_memory_is_measured() -> None:
    now = psutil.Process().memory_info().rss / 1e9
    assert now * 0.98 <= peak_memory_gb(torch.device("cpu")) < now + 20
    free_memory(torch.device("cpu"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep it, or do not say")
def test_freed_memory_goes_back() -> None:
    """Also what lies below something that is still held."""
    before = psutil.Process().memory_info().rss
    pieces = [torch.ones(20_000) for _ in range(2000)]
    held = pieces[-1]
    del pieces
    free_memory(torch.device("cpu"))
    assert psutil.Process().memory_info().rss - before < 50_000_000 < 2000 * held.nbytes


def test_a_device_by_its_name() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("cuda:99", "toaster"):
        with pytest.raises(InputError, match=f"--device {name}: there is no such device"):
            pick_device(name)


def test_room_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held and what is free, of which each process of a machine has its share."""
    held = psutil.Process().memory_info().rss / 1e9
    cpu, whole = torch.device("cpu"), psutil.virtual_memory().total / 1e9
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 10**9))
    assert held < memory_room_gb(cpu) - 7.5 < held + 1 < whole
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert held < memory_room_gb(cpu) - 1.5 < held + 1


def test_one_of_several_alone() -> None:
    several = replace(start_compute("no"), rank=1, world_size=2, shards=True)
    assert (several.alone.rank, several.alone.world_size, several.alone.shards) == (0, 1, False)


def test_shards_only_where_all_weights_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(device.FSDP, "true")
    assert start_compute("no", may_shard=True).shards is False, "one process has nobody to share with"
    with pytest.raises(InputError, match="asks for FSDP"):
        start_compute("no")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(InputError, match="asks for DeepSpeed"):
        start_compute("no", may_shard=True)
