"""Whole parts of a model that learn: all weights of its UNet, or of its text encoders."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from library.errors import InputError
from library.models.checkpoints import part_tensors
from library.train.sharding import take_over


class WholeModel:
    """Parts of a model with all their weights learning, in the number format that they are in.

    A state holds them by part and by their names in files, such as `unet.conv_in.weight`.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.modules = dict(modules)
        self.layers = {part: _layers(module) for part, module in self.modules.items()}
        for module in self.modules.values():
            module.requires_grad_(True)

    def parameters(self, part: str) -> list[nn.Parameter]:
        """All weights of a part; none of a part that does not learn."""
        return list(self.modules[part].parameters()) if part in self.modules else []

    def state_dict(self) -> dict[str, Tensor]:
        """Copies on the CPU, in the format of the weights."""
        return {name: tensor.to("cpu", copy=True) for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave. Raises InputError where that is of other parts, shapes or formats."""
        own = self._tensors()
        for name in sorted(own.keys() | state.keys()):
            mine, given = own.get(name), state.get(name)
            if mine is None or given is None or (mine.shape, mine.dtype) != (given.shape, given.dtype):
                raise InputError(f"the state does not fit this model: {name} is not the same in both.")
        for name, tensor in own.items():
            take_over(tensor, state[name])

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """The weights of now by part and name: no copies."""
        return {part: part_tensors(module) for part, module in self.modules.items()}

    def tables(self) -> list[dict[str, nn.Parameter | None]]:
        """Where torch keeps the weights, by name in each module."""
        return [each._parameters for module in self.modules.values() for each in module.modules()]

    def _tensors(self) -> dict[str, Tensor]:
        return {f"{part}.{name}": tensor for part, named in self.tensors().items() for name, tensor in named.items()}


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """The modules that have weights of their own, by path."""
    return {path: each for path, each in module.named_modules() if any(True for _ in each.parameters(recurse=False))}
