"""What every kind of adapter can do, and what it is told when it is put on a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from library.adapters.keys import LoraWeights


class Size(NamedTuple):
    """A layer's rank and alpha; what it computes is scaled by alpha / rank."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class Options:
    """What all layers of a network are told.

    The dropouts are chances: of each input of a layer, of each rank (or, where a kind has none, each output), and of
    the whole layer. `fused` lets layers be computed in one piece; `arguments` are those of one kind alone.
    """

    dropout: float = 0.0
    rank_dropout: float = 0.0
    module_dropout: float = 0.0
    fused: bool = True
    arguments: Mapping[str, str] = field(default_factory=dict)


class Kind(Protocol):
    """A kind of adapter, as `lookup.ADAPTERS` names them; `layer.OwnKind` is most of them.

    `module` and `told` are what files say in ss_network_module and, besides the user's, in ss_network_args.
    """

    @property
    def module(self) -> str:
        """The name that other trainers have for it."""

    @property
    def told(self) -> Mapping[str, str]:
        """Further network_args by which they know it."""

    def fitted(self, options: Options) -> "Kind":
        """The kind that can do what the options ask for: itself, or one that is slower and can do more."""

    def inject(self, model: nn.Module, sizes: Mapping[str, Size], options: Options) -> dict[str, Any]:
        """Wraps the modules at these paths of a frozen model, and returns the wrapping layers by path.

        Of layers that share what learns, only the first is returned.
        """

    def start(self, layer: Any, seed: int) -> None:
        """Start values that change nothing yet."""

    def parameters(self, layer: Any) -> list[nn.Parameter]:
        """What learns in a layer."""

    def faster(self, layer: Any) -> list[nn.Parameter]:
        """Those of its parameters that LoRA+ lets learn faster; empty if the kind has none."""

    def weights(self, layer: Any) -> LoraWeights:
        """The two matrices of a layer that has two, as they are now: no copies."""

    def state(self, layer: Any) -> dict[str, Tensor]:
        """The layer's own tensors by their last names, from which a run goes on: no copies."""

    def restore(self, layer: Any, state: Mapping[str, Tensor], stem: str) -> None:
        """Takes over what `state` gave. Raises InputError where it does not fit."""

    def export(self, layer: Any, alpha: float) -> dict[str, Tensor]:
        """The tensors that a file has of the layer, by their last names, for an alpha that all layers share."""

    def read(self, path: Path, layers: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a file has for layers of this kind, and for any others, by stem, as `take` wants it."""

    def take(self, layer: Any, change: Any, stem: str) -> None:
        """Start values from a file. Raises InputError where kind, rank or shape differ."""

    def scaling(self, layer: Any) -> float:
        """What the layer's effect is multiplied with."""

    def set_scaling(self, layer: Any, scaling: float) -> None:
        """Sets what the layer's effect is multiplied with."""
