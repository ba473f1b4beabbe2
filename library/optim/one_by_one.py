"""Weights that are moved one by one: in the backward pass, or in float32 while they are kept in bf16."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from library.optim.optimizers import Arguments, build_optimizer
from library.seeds import derive_seed

KEPT_BITS = -(1 << 16)  # the upper half of a float32, which is a bf16


def round_stochastically(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 to bf16, up or down at random so that the mean is the value itself (arXiv 2010.06192).

    Rounded to the nearest, steps of less than 1/256 of a weight would all be lost.
    """
    noise = torch.randint(1 << 16, values.shape, generator=generator, device=values.device, dtype=torch.int32)
    bits = noise.add_(values.view(torch.int32))
    return bits.bitwise_and_(KEPT_BITS).view(torch.float32).to(torch.bfloat16)


class OneByOne:
    """An optimizer that moves each weight by itself, for optimizers whose steps look at one weight at a time.

    It knows a weight in bf16 by a stand-in that is empty but for the step: then it holds the weight in float32. So
    the optimizer's own state is that of float32 weights, and it can be built, saved and loaded like any other.
    """

    def __init__(self, name: str, groups: Sequence[Mapping[str, Any]], arguments: Arguments, seed: int) -> None:
        """As `build_optimizer`; `seed` decides how weights in bf16 are rounded."""
        self.weights: dict[str, list[nn.Parameter]] = {group["name"]: list(group["params"]) for group in groups}
        held = [{**group, "params": [_stand_in(each) for each in group["params"]]} for group in groups]
        self.optimizer: Optimizer = build_optimizer(name, held, arguments)
        self.seed = seed
        self.number = 0  # of the step that is under way
        self.in_backward = False
        self._squares: list[Tensor] = []
        # Of each weight its number, that of its group (whose table is a new one after a resume), and its stand-in.
        self._places: dict[int, tuple[int, int, nn.Parameter]] = {}
        for number, group in enumerate(self.optimizer.param_groups):
            for weight, stand_in in zip(self.weights[group["name"]], group["params"], strict=True):
                self._places[id(weight)] = (len(self._places), number, stand_in)

    def step_in_backward(self) -> None:
        """From now on each weight is moved, and its gradient freed, as soon as the backward pass has all of it."""
        self.in_backward = True
        for weights in self.weights.values():
            for weight in weights:
                weight.register_post_accumulate_grad_hook(self._step_with_norm)

    def take_norm(self) -> Tensor:
        """The norm of all gradients that weights were moved by in a backward pass; it then begins anew."""
        norm = torch.stack(self._squares).sum().sqrt()
        self._squares.clear()
        return norm

    @torch.no_grad()
    def step(self, weight: nn.Parameter) -> None:
        """Moves one weight by its gradient, which is freed; without a gradient it stays."""
        if weight.grad is None:
            return
        place, group, held = self._places[id(weight)]
        if held is not weight:
            held.data, held.grad = weight.detach().float(), weight.grad.float()
            weight.grad = None
        self._step_alone(group, held)
        if held is not weight:
            generator = torch.Generator(weight.device)
            generator.manual_seed(derive_seed(self.seed, "rounding", self.number, place))
            weight.copy_(round_stochastically(held.data, generator))
            held.data = held.data.new_empty(0)
        held.grad = None

    def _step_with_norm(self, weight: nn.Parameter) -> None:
        """As a hook of the backward pass."""
        if weight.grad is not None:
            self._squares.append(torch.linalg.vector_norm(weight.grad, dtype=torch.float32).square())
        self.step(weight)

    def _step_alone(self, group: int, held: nn.Parameter) -> None:
        """A step of the optimizer as if there were no other weight."""
        groups = self.optimizer.param_groups
        self.optimizer.param_groups = [{**groups[group], "params": [held]}]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups


def _stand_in(weight: nn.Parameter) -> nn.Parameter:
    """What the optimizer knows of a weight: itself, if it is in float32."""
    if weight.dtype == torch.float32:
        return weight
    return nn.Parameter(torch.empty(0, dtype=torch.float32, device=weight.device))
