"""Several linear layers that read the same tensor, with their low-rank parts, in one piece and few products."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from library.frozen import frozen_linear


class Side(NamedTuple):
    """A low-rank part: scaling (x A') B' for `down` A (rank, inputs) and `up` B (outputs, rank)."""

    down: Tensor
    up: Tensor
    scaling: float


class Run(NamedTuple):
    """Neighbours among the layers of a group whose low-rank parts have the same sizes and scaling."""

    layers: int
    outputs: int
    rank: int
    scaling: float
    column: int  # of all outputs, where theirs begin
    start: int  # of all ranks, where theirs begin
    number: int  # of the first low-rank part

    def columns(self, y: Tensor) -> Tensor:
        """Their part of all outputs (rows, all), as a view (layers, rows, outputs)."""
        return self._part(y, self.column, self.outputs)

    def ranks(self, inner: Tensor) -> Tensor:
        """Their part of all inner products (rows, all), as a view (layers, rows, rank)."""
        return self._part(inner, self.start, self.rank)

    def stacked(self, ups: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """Their B (layers, outputs, rank) of all."""
        return torch.stack(tuple(ups[self.number : self.number + self.layers])).to(dtype)

    def _part(self, rows: Tensor, first: int, width: int) -> Tensor:
        return rows.narrow(1, first, self.layers * width).unflatten(1, (self.layers, width)).transpose(0, 1)


class SharedPath(torch.autograd.Function):
    """All y_i = x W_i' + b_i + s_i (x A_i') B_i' for the layers i of a group, some without the second part.

    `whole` is the linear layer with all weights; `widths` are the layers' outputs. The matrices are those of `runs`,
    every A and then every B. What is kept, and what is rounded to the format of x, is as in `fused.SidePath`; x itself
    is not, but another tensor with its data, so that x can carry the outputs.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, whole: nn.Linear, widths: Sequence[int], runs: Sequence[Run], *matrices: Tensor
    ) -> tuple[Tensor, ...]:
        """The layers' outputs, each (..., outputs), in the format of x."""
        rows, frozen = x.detach().reshape(-1, x.shape[-1]), frozen_linear(whole)
        y = frozen.ahead(rows) if frozen else nn.functional.linear(rows, whole.weight, whole.bias)
        downs, ups = _halves(matrices)
        down = torch.cat(list(downs)).to(x.dtype) if downs else rows
        inner = rows @ down.t() if downs else rows
        near = [run.stacked(ups, x.dtype) for run in runs]
        for run, up in zip(runs, near, strict=True):
            run.columns(y).baddbmm_(run.ranks(inner), up.transpose(1, 2), alpha=run.scaling)
        ctx.save_for_backward(rows, inner, down, *near)
        ctx.set_materialize_grads(False)
        ctx.whole, ctx.widths, ctx.runs, ctx.shape = whole, widths, runs, x.shape
        ctx.formats, ctx.ranks = [each.dtype for each in matrices], [len(each) for each in downs]
        return tuple(each.unflatten(0, x.shape[:-1]) for each in y.split(list(widths), 1))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of x, of every A and of every B; none for x where nothing below it learns."""
        rows, inner, down, *near = ctx.saved_tensors
        dy = torch.cat(
            [
                rows.new_zeros(len(rows), width) if each is None else each.reshape(-1, width)
                for each, width in zip(gradients, ctx.widths, strict=True)
            ],
            1,
        )
        formats, count = ctx.formats, len(ctx.ranks)
        d_inner, d_ups = torch.empty_like(inner), list[Tensor]()
        for run, up in zip(ctx.runs, near, strict=True):
            own, part = run.columns(dy), run.ranks(inner)
            # With beta = 0 what is added to gives its shape alone.
            run.ranks(d_inner).baddbmm_(own, up, beta=0, alpha=run.scaling)
            d_up = torch.baddbmm(up, own.transpose(1, 2), part, beta=0, alpha=run.scaling)
            d_ups += d_up.to(formats[count + run.number]).unbind()
        d_downs: Sequence[Tensor] = ()
        if count:
            d_downs = (d_inner.t() @ rows).to(formats[0]).split(ctx.ranks)
        dx = None
        if ctx.needs_input_grad[0]:
            frozen = frozen_linear(ctx.whole)
            dx = frozen.back(dy, rows.shape) if frozen else dy @ ctx.whole.weight
            if count:
                dx.addmm_(d_inner, down)
            dx = dx.view(ctx.shape)
        return dx, None, None, None, *d_downs, *d_ups


def runs_of(sides: Sequence[Side | None], widths: Sequence[int]) -> Iterator[Run]:
    """The low-rank parts, in as few runs as they can be."""
    column = start = number = 0
    sizes = [(len(side.down), side.scaling) if side else (0, 0.0) for side in sides]
    alike = [(width, *size) for width, size in zip(widths, sizes, strict=True)]
    for (outputs, rank, scaling), members in groupby(alike):
        count = len(list(members))
        if rank:
            yield Run(count, outputs, rank, scaling, column, start, number)
            number += count
        column += count * outputs
        start += count * rank


def _halves(matrices: Sequence[Tensor]) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    half = len(matrices) // 2
    return matrices[:half], matrices[half:]
