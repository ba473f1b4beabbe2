"""Timing in turns."""

import time

import torch

from library.bench.rounds import alone, race, seconds, table

CPU = torch.device("cpu")


def test_contestants_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[tuple[str, int]] = []

    def slow_at_first(number: int) -> None:
        calls.append(("a", number))
        time.sleep(0.2 if number < 2 else 0.01)

    def other(number: int) -> None:
        calls.append(("b", number))
        time.sleep(0.03)

    timings = race({"a": slow_at_first, "b": other}, CPU, rounds=3, steps=2)
    assert calls[:6] == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3)] and len(calls) == 16
    assert 9 < timings["a"].ms < timings["b"].ms and timings["b"].ms > 29
    assert timings["a"].peak_gb is None


def test_one_alone() -> None:
    assert alone(lambda _: time.sleep(0.01), CPU, rounds=2, steps=1).ms >= 10


def test_work_counts_until_it_is_done() -> None:
    assert seconds(lambda: time.sleep(0.02), CPU) >= 0.02


def test_the_table_lines_up() -> None:
    row = {"work": "sd1 512 b1 lora", "ours_ms": 10.0, "reference_ms": 25.0, "ratio": 2.5, "peak_gb": 2.0}
    row |= {"of_limit": 0.215, "first_step_s": 3.24}
    head, first, second = table([row, {**row, "peak_gb": None}]).splitlines()
    words = ["sd1", "512", "b1", "lora", "10.0", "ms", "25.0", "ms", "2.50", "21.5%", "3.2", "s", "2.00", "GB"]
    assert first.split() == words
    assert second.endswith("-") and len(head) == len(first) == len(second)
