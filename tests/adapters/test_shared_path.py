"""Layers in one piece: gradients by finite differences, and what is put together."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from library.adapters.shared_path import Run, SharedPath, Side, runs_of


def small() -> Iterator[Any]:
    generator = torch.Generator().manual_seed(7)
    for shape in ((2, 3, 4), (2, 4), (2, 4), (1, 4), (3, 2), (3, 2), (5, 1)):
        yield torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()


def test_gradients_are_right_by_finite_differences() -> None:
    whole = nn.Linear(4, 3 + 3 + 2 + 5).double().requires_grad_(False)
    runs = [Run(2, 3, 2, 0.7, 0, 0, 0), Run(1, 5, 1, 1.3, 8, 4, 2)]
    assert torch.autograd.gradcheck(lambda x, *m: SharedPath.apply(x, whole, [3, 3, 2, 5], runs, *m), list(small()))
    x, *_ = small()
    assert torch.autograd.gradcheck(lambda x: SharedPath.apply(x, whole, [3, 3, 2, 5], []), [x])


def test_neighbours_of_the_same_sizes_are_put_together() -> None:
    def side(outputs: int, rank: int, scaling: float = 1.0) -> Side:
        return Side(torch.zeros(rank, 4), torch.zeros(outputs, rank), scaling)

    sides = [side(6, 2), side(6, 2), None, side(6, 2), side(6, 2, 0.5), side(6, 3), side(8, 3)]
    assert list(runs_of(sides, [6, 6, 6, 6, 6, 6, 8])) == [
        Run(2, 6, 2, 1.0, 0, 0, 0),
        Run(1, 6, 2, 1.0, 18, 4, 2),
        Run(1, 6, 2, 0.5, 24, 6, 3),
        Run(1, 6, 3, 1.0, 30, 8, 4),
        Run(1, 8, 3, 1.0, 36, 11, 5),
    ]
    assert list(runs_of([None, None], [6, 6])) == []


def test_a_run_is_a_view_of_its_layers() -> None:
    everything = torch.arange(2.0 * 20).view(2, 20)
    run = Run(3, 4, 2, 1.0, 5, 1, 0)
    columns, ranks = run.columns(everything), run.ranks(everything)
    assert columns.shape == (3, 2, 4) and torch.equal(columns[1], everything[:, 9:13])
    assert ranks.shape == (3, 2, 2) and torch.equal(ranks[2], everything[:, 5:7])
    columns.zero_()
    assert everything[:, 5:17].abs().sum() == 0 < everything[:, 17:].min()
