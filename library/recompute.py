"""Selective checkpointing: what norms and activations give is computed again in the backward pass, and not kept.

They cost next to nothing to compute and, with the gates of feed-forward layers, are two fifths of what the forward
pass of a LoRA keeps (Korthikanti et al. 2022, https://arxiv.org/abs/2205.05198, section 4, by the same thought).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.activations import GEGLU
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

BLOCKS = (BasicTransformerBlock, ResnetBlock2D)


class GatedGelu(nn.Module):
    """a GELU(b) for inputs [a, b] (..., 2 width), as in diffusers' GEGLU (Shazeer 2020, arXiv 2002.05202)."""

    keeps_all = False

    def forward(self, x: Tensor) -> Tensor:
        """(..., width); nothing is kept but x, unless it `keeps_all`."""
        y: Tensor = _gated(x) if self.keeps_all else _GatedGelu.apply(x)
        return y


def _gated(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return a * nn.functional.gelu(b)


class _GatedGelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _gated(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        a, b = x.chunk(2, dim=-1)
        dx = torch.empty_like(x)
        da, db = dx.chunk(2, dim=-1)
        torch.mul(gradient, nn.functional.gelu(b), out=da)
        torch.ops.aten.gelu_backward.grad_input(gradient * a, b, grad_input=db)
        return dx


class ThriftyGEGLU(nn.Module):
    """diffusers' GEGLU around the same projection, whose name stays what it is."""

    def __init__(self, proj: nn.Module) -> None:
        super().__init__()
        self.proj, self.gate = proj, GatedGelu()

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., width)."""
        y: Tensor = self.gate(self.proj(x))
        return y


CHEAP = (nn.LayerNorm, nn.GroupNorm, nn.SiLU, GatedGelu)


@dataclass(frozen=True)
class Recipe:
    """How to make a tensor again: a cheap module, and what it was given, which may itself have to be made again."""

    module: nn.Module
    source: "Tensor | Recipe"
    version: int
    rounding: torch.dtype | None  # of autocast, where that was on

    @property
    def root(self) -> Tensor:
        """What is kept for it."""
        return self.source.root if isinstance(self.source, Recipe) else self.source

    def make(self) -> Tensor:
        """The tensor, to the bit; called in the backward pass."""
        if isinstance(self.source, Recipe):
            given = self.source.make()
        elif self.source._version != self.version:
            raise RuntimeError("selective_checkpointing: a tensor was changed before the backward pass needed it.")
        else:
            given = self.source
        mixed = torch.autocast(given.device.type, dtype=self.rounding, enabled=self.rounding is not None)
        with torch.no_grad(), mixed:
            made: Tensor = self.module.forward(given)
        return made


@dataclass(frozen=True)
class View:
    """A view of what a recipe makes, as autograd was about to keep it."""

    recipe: Recipe
    size: torch.Size
    stride: tuple[int, ...]
    offset: int

    def make(self) -> Tensor:
        """The view of a tensor made again."""
        return self.recipe.make().as_strided(self.size, self.stride, self.offset)


class Recipes:
    """Knows within a block which tensors are cheap, and gives autograd recipes in place of them."""

    def __init__(self) -> None:
        self.watch: Callable[[Tensor, int], object] | None = None  # told of what is kept, and the bytes made of it
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)
        # By storage. The tensors are held, so that no other takes their place, until their block ends.
        self._known: dict[int, tuple[Tensor, Recipe]] = {}
        self._gates: list[GatedGelu] = []
        self._is_on = True

    def use_in(self, block: nn.Module) -> None:
        """Has a block and the cheap modules in it do so from now on, wherever gradients are asked for."""
        block.register_forward_pre_hook(self._begin)
        block.register_forward_hook(self._end, always_call=True)
        for module in block.modules():
            if isinstance(module, CHEAP):
                module.register_forward_hook(self._note)
        self._gates += [module for module in block.modules() if isinstance(module, GatedGelu)]

    def turn(self, on: bool) -> None:
        """Whether recipes are given; if not, all is kept as before."""
        self._is_on = on
        for gate in self._gates:
            gate.keeps_all = not on

    def _begin(self, *_: object) -> None:
        if self._is_wanted:
            self._hooks.__enter__()

    def _end(self, *_: object) -> None:
        if self._is_wanted:
            self._hooks.__exit__()
        self._known.clear()

    @property
    def _is_wanted(self) -> bool:
        return self._is_on and torch.is_grad_enabled()

    def _note(self, module: nn.Module, args: tuple[Tensor, ...], made: Tensor) -> None:
        if not self._is_wanted:
            return
        (given,) = args
        _, before = self._known.get(_storage(given), (None, None))
        kind = given.device.type
        rounding = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        self._known[_storage(made)] = (made, Recipe(module, before or given.detach(), given._version, rounding))

    def _pack(self, tensor: Tensor) -> Tensor | View:
        _, recipe = self._known.get(_storage(tensor), (None, None))
        if self.watch:
            self.watch(recipe.root if recipe else tensor, tensor.nbytes if recipe else 0)
        if recipe is None:
            return tensor
        return View(recipe, tensor.size(), tensor.stride(), int(tensor.storage_offset()))

    def _unpack(self, kept: Tensor | View) -> Tensor:
        return kept.make() if isinstance(kept, View) else kept


def keep_no_cheap_tensors(unet: nn.Module) -> None:
    """From now on the UNet's blocks keep nothing that norms and activations made. Gradients stay what they are."""
    for path, module in list(unet.named_modules()):
        if isinstance(module, GEGLU):
            unet.set_submodule(path, ThriftyGEGLU(module.proj))
    recipes = Recipes()
    for module in unet.modules():
        if isinstance(module, BLOCKS):
            recipes.use_in(module)
    unet.recipes = recipes  # type: ignore[assignment]


def recipes_of(unet: nn.Module) -> Recipes | None:
    """What `keep_no_cheap_tensors` has put to use in a UNet."""
    recipes: Recipes | None = getattr(unet, "recipes", None)
    return recipes


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
