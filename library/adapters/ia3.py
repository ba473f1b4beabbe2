"""(IA)^3: each output or input of a layer gets a factor of its own (Liu et al. 2022, arXiv 2205.05638)."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer, OwnKind

# Layers whose inputs are scaled, as in the paper: the second of each MLP.
ON_INPUT = re.compile(r"(^|\.)(ff\.net\.2|mlp\.fc2)$")


class Ia3Layer(AdapterLayer):
    """The change W * factors, where the factors are (outputs, 1) or (1, inputs); rank and alpha mean nothing.

    Files have the change itself, for ComfyUI and Forge do not know the factors.
    """

    def __init__(self, base: nn.Module, size: Size, options: Options) -> None:
        super().__init__(base, size, options)
        self.scale_axis(0)

    def scale_axis(self, axis: int) -> None:
        """Has one factor for each output (0) or input (1)."""
        self.factors = self.new(*(count if each == axis else 1 for each, count in enumerate(self.weight.shape)))

    def begin(self, generator: torch.Generator) -> None:
        """Nothing is scaled."""
        self.factors.zero_()

    def change(self) -> Tensor:
        """The weight times the factors."""
        return self.weight.detach().float() * self.factors

    def export(self, alpha: float) -> dict[str, Tensor]:
        """The change."""
        return {"diff": self.change()}


class Ia3Kind(OwnKind):
    """Chooses inputs or outputs by a layer's place."""

    def inject(self, model: nn.Module, sizes: Mapping[str, Size], options: Options) -> dict[str, AdapterLayer]:
        """Wraps the modules at these paths."""
        layers = super().inject(model, sizes, options)
        for path, layer in layers.items():
            if ON_INPUT.search(path) and isinstance(layer, Ia3Layer):
                layer.scale_axis(1)
        return layers


IA3 = Ia3Kind("lycoris.kohya", Ia3Layer, {"algo": "ia3"})
