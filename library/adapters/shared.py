"""Layers that read the same tensor, computed as one: the K and V of all cross-attentions, and all time projections.

A UNet asks each of its cross-attentions for two products with the same text, and each of its resnets for one with the
same time. One product with all their weights is exact, and so are their low-rank parts, gathered by their sizes; of
hundreds of small operations, which a GPU waits for, a few are left.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from library.adapters.shared_path import SharedPath, Side, runs_of
from library.frozen import FrozenLayer

READERS = (".attn2.to_k", ".attn2.to_v")  # the ends of the paths of what reads the text
CONTEXT = "encoder_hidden_states"  # the text, as a UNet of diffusers is given it
NOTE = "shared_outputs"  # what a tensor carries

# The blocks of Stable Diffusion's UNets: in these, nothing but ResnetBlock2D looks at the time.
BLOCKS = frozenset(
    {"CrossAttnDownBlock2D", "DownBlock2D", "UNetMidBlock2DCrossAttn", "CrossAttnUpBlock2D", "UpBlock2D"}
)


@runtime_checkable
class Sided(Protocol):
    """A layer that may be its frozen one and a low-rank part."""

    def low_rank(self, x: Tensor) -> Side | None:
        """The low-rank part; None where the layer makes something else of x."""


class Output(NamedTuple):
    """A layer's output, with its low-rank part where it `is_whole`."""

    value: Tensor
    is_whole: bool


class SharedLinear(FrozenLayer):
    """A frozen linear layer that takes its output from the tensor that it reads, if that carries it."""

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output without any adapter's part."""
        found = self._noted(x)
        return super().__call__(x) if found is None or found.is_whole else found.value

    def whole(self, x: Tensor) -> Tensor | None:
        """The output with the low-rank part, if x carries it."""
        found = self._noted(x)
        return found.value if found and found.is_whole else None

    def ahead(self, x: Tensor) -> Tensor:
        """The layer's output, without autograd."""
        return self._plain(x)

    def back(self, dy: Tensor, shape: torch.Size) -> Tensor:
        """The gradient of the inputs."""
        return dy @ self.weight

    def _noted(self, x: Tensor) -> Output | None:
        outputs: dict[SharedLinear, Output] = getattr(x, NOTE, {})
        return outputs.get(self)


def whole_output(layer: nn.Module, x: Tensor) -> Tensor | None:
    """What x carries for the frozen layer and a low-rank part on it."""
    shared: Any = layer.forward
    return shared.whole(x) if isinstance(shared, SharedLinear) else None


class Group:
    """Linear layers that read the same tensor, with adapters on them or without.

    Their weights, and their biases, become parts of one tensor, which is all that there is of them. Should they no
    longer be, or learn, each layer computes by itself.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = sorted(layers, key=lambda layer: len(frozen_base(layer).weight))
        self.bases = [frozen_base(layer) for layer in self.layers]
        self.sided = [layer if isinstance(layer, Sided) else None for layer in self.layers]
        self.widths = [len(base.weight) for base in self.bases]
        first, total = self.bases[0], sum(self.widths)
        self.whole = nn.Linear(first.in_features, total, first.bias is not None, device="meta")
        self.places: list[tuple[Any, str, int]] = []
        for name in ("weight", "bias"):
            if getattr(first, name) is not None:
                self._join(name)
        for base in self.bases:
            base.forward = SharedLinear(base)  # type: ignore[method-assign, assignment]

    def read(self, x: Tensor) -> Tensor:
        """x, as a tensor of its own that carries the layers' outputs for it."""
        if not self._knows(x):
            return x
        sides = [layer.low_rank(x) if layer else None for layer in self.sided]
        told = [side for side in sides if side]
        matrices = *(side.down for side in told), *(side.up for side in told)
        runs = list(runs_of(sides, self.widths))
        values = SharedPath.apply(x, self.whole, self.widths, runs, *matrices)
        found = zip(self.bases, values, sides, strict=True)
        alias = x.view_as(x)
        setattr(alias, NOTE, {base.forward: Output(value, bool(side)) for base, value, side in found})
        return alias

    @torch.no_grad()
    def _join(self, name: str) -> None:
        """Makes one tensor of all weights or biases, and parts of it of theirs; both know when it is changed."""
        every = torch.cat([getattr(base, name) for base in self.bases])
        setattr(self.whole, name, nn.Parameter(every, requires_grad=False))
        for base, part in zip(self.bases, every.split(self.widths), strict=True):
            setattr(base, name, nn.Parameter(part, requires_grad=False))
            self.places.append((base, name, part.data_ptr()))

    def _knows(self, x: Tensor) -> bool:
        """Whether one product is what the layers would compute for x."""
        if torch.is_autocast_enabled(x.device.type) or x.dtype != self.whole.weight.dtype:
            return False
        held = ((getattr(base, name), address) for base, name, address in self.places)
        return all(not each.requires_grad and each.data_ptr() == address for each, address in held)


class TimeActivation(nn.Module):
    """SiLU, once for all resnets, with what their projections make of it."""

    def __init__(self, group: Group) -> None:
        super().__init__()
        self.group = group

    def forward(self, time: Tensor) -> Tensor:
        """SiLU of the time (batch, width)."""
        return self.group.read(nn.functional.silu(time))


def use_shared_products(unet: nn.Module) -> list[nn.Linear]:
    """Has the frozen layers of a UNet that read the same tensor computed as one; returns the layers of all weights.

    Classes, names and shapes stay. Weights that learn, and those in few bits, are left alone.
    """
    readers = _alike([layer for path, layer in unet.named_modules() if path.endswith(READERS)])
    groups = []
    if len(readers) > 1:
        groups.append(Group(readers))
        unet.register_forward_pre_hook(partial(_read_context, groups[-1]), with_kwargs=True)
    resnets: list[Any] = [each for each in unet.modules() if type(each).__name__ == "ResnetBlock2D"]
    projections = _alike([resnet.time_emb_proj for resnet in resnets])
    if len(projections) > 1 and _is_usual(unet, resnets):
        groups.append(Group(projections))
        unet.time_embed_act = TimeActivation(groups[-1])
        for resnet in resnets:
            resnet.skip_time_act = True
    return [group.whole for group in groups]


def frozen_base(layer: Any) -> nn.Linear:
    """The layer under all adapters."""
    while hasattr(layer, "get_base_layer") and layer.get_base_layer() is not layer:
        layer = layer.get_base_layer()
    base: nn.Linear = layer
    return base


def _alike(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Those whose frozen layers can be computed together with that of the first that can."""
    found: list[nn.Module] = []
    kinds = []
    for layer in layers:
        base: Any = frozen_base(layer)
        if (
            type(base) is not nn.Linear
            or type(base.weight) is not nn.Parameter
            or isinstance(base.forward, FrozenLayer)
        ):
            continue
        if not any(each.requires_grad for each in base.parameters(recurse=False)):
            kinds.append((base.in_features, base.weight.dtype, base.weight.device, base.bias is None))
            found += [layer] if kinds[-1] == kinds[0] else []
    return found


def _is_usual(unet: Any, resnets: Sequence[Any]) -> bool:
    """Whether nothing but these resnets looks at the time, each by SiLU first."""
    blocks = {type(block).__name__ for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks)}
    acts = unet.time_embed_act is None and all(type(each.nonlinearity) is nn.SiLU for each in resnets)
    return acts and blocks <= BLOCKS and not any(each.skip_time_act for each in resnets)


def _read_context(group: Group, _: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Gives the UNet a text that carries what its cross-attentions read in it."""
    x = kwargs.get(CONTEXT)
    return args, kwargs if x is None else {**kwargs, CONTEXT: group.read(x)}
