"""The running average of what learns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from library.train.ema import PREFIX, Ema

CPU = torch.device("cpu")


def move(tiny, value: float) -> None:
    """Sets all weights."""
    tiny.load({part: torch.full((2, 2), value) for part in tiny.layers})


def test_each_step_counts_for_less(tiny) -> None:
    ema = Ema(tiny, 0.5, CPU)
    assert all(torch.equal(each, torch.full((2, 2), 0.5)) for each in ema.averages)
    expected = 0.5
    for step in range(1, 30):
        move(tiny, step)
        ema.update(step)
        kept = min(0.5, step / (9 + step))
        expected = kept * expected + (1 - kept) * step
        assert ema.averages[0][0, 0].item() == pytest.approx(expected, rel=1e-5)


@given(st.integers(1, 10**6))
def test_the_share_of_the_past_grows_to_the_decay(step: int) -> None:
    first, later = (min(0.9999, each / (9 + each)) for each in (step, step + 1))
    assert 0.1 <= first <= later <= 0.9999


def test_it_stands_in_for_the_weights(tiny) -> None:
    ema = Ema(tiny, 0.9, CPU)
    move(tiny, 3.0)
    before = tiny.matrices["unet"].data_ptr()
    with ema.in_place():
        assert all(torch.equal(each, torch.full((2, 2), 0.5)) for each in tiny.state_dict().values())
    assert tiny.matrices["unet"].data_ptr() == before
    assert all(torch.equal(each, torch.full((2, 2), 3.0)) for each in tiny.state_dict().values())
    with pytest.raises(ZeroDivisionError), ema.in_place():
        raise ZeroDivisionError
    assert tiny.matrices["unet"].data_ptr() == before


def test_weights_in_bf16_have_an_average_in_float32(tiny) -> None:
    """One in bf16 would not move at all."""
    for matrix in tiny.matrices.values():
        matrix.data = matrix.data.to(torch.bfloat16)
    ema = Ema(tiny, 0.9999, CPU)
    move(tiny, 0.6)
    ema.update(10**6)
    assert {each.dtype for each in ema.averages} == {torch.float32}
    assert ema.averages[0][0, 0].item() == pytest.approx(0.5 + 1e-4 * 0.1, abs=2e-6)
    with ema.in_place():
        assert {matrix.dtype for matrix in tiny.matrices.values()} == {torch.float32}
    assert {matrix.dtype for matrix in tiny.matrices.values()} == {torch.bfloat16}


def test_a_state_brings_it_back(tiny) -> None:
    ema = Ema(tiny, 0.9, CPU)
    move(tiny, 3.0)
    ema.update(1)
    state = ema.state_dict()
    assert all(name.startswith(PREFIX) for name in state) and len(state) == 2
    again = Ema(tiny, 0.9, CPU)
    again.load({**state, "unet": torch.zeros(2, 2)})
    for one, other in zip(ema.averages, again.averages, strict=True):
        assert torch.equal(one, other) and one.data_ptr() != other.data_ptr()
