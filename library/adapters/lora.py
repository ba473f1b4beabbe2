"""LoRA: a low-rank product added to a frozen weight (Hu et al. 2021, arXiv 2106.09685), by PEFT's layers."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from library.adapters.changes import Change, read_changes
from library.adapters.fused import use_fused_layers
from library.adapters.keys import ALPHA, DOWN, UP, LoraWeights, to_leaves
from library.adapters.kinds import Kind, Options, Size
from library.adapters.low_rank import LOW_RANK
from library.adapters.tucker import TUCKER
from library.errors import InputError

ADAPTER = "default"


class Lora:
    """The kind of adapter named "lora": what sd-scripts calls networks.lora."""

    module = "networks.lora"
    told: Mapping[str, str] = {}

    def fitted(self, options: Options) -> Kind:
        """Itself; PEFT's layers cannot drop ranks or whole layers, and have no core, ours can and have."""
        if options.arguments.get("use_tucker"):
            return TUCKER
        return LOW_RANK if options.rank_dropout or options.module_dropout else self

    def inject(self, model: nn.Module, sizes: Mapping[str, Size], options: Options) -> dict[str, LoraLayer]:
        """Puts a float32 LoRA layer around each module of `model` that `sizes` names, and freezes all else.

        Args:
            sizes: module path -> rank and alpha; the product is scaled by alpha / rank
            options: what all layers are told

        Returns:
            module path -> PEFT layer
        """
        # The patterns are regular expressions for the end of a path; a caret makes each one path only. PEFT tries all
        # of them on every layer, which takes long where there are hundreds.
        usual = Counter(size.rank for size in sizes.values()).most_common(1)[0][0]
        alpha = Counter(size.alpha for size in sizes.values()).most_common(1)[0][0]
        config = LoraConfig(
            r=usual,
            lora_alpha=alpha,
            lora_dropout=options.dropout,
            target_modules=list(sizes),
            rank_pattern={f"^{re.escape(path)}": each.rank for path, each in sizes.items() if each.rank != usual},
            alpha_pattern={f"^{re.escape(path)}": each.alpha for path, each in sizes.items() if each.alpha != alpha},
            bias="none",
        )
        if options.fused:
            use_fused_layers(config)
        # PEFT draws start values of its own, which are not used: the process's random stream must not move.
        with torch.random.fork_rng(devices=[]):
            inject_adapter_in_model(config, model, adapter_name=ADAPTER)
        layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, LoraLayer)}
        if layers.keys() != sizes.keys():
            differing = sorted(layers.keys() ^ sizes.keys())
            raise RuntimeError(f"PEFT chose other layers than it was told: {differing[:3]}")
        for layer in layers.values():
            layer.train(model.training)
            layer.lora_A[ADAPTER].float()
            layer.lora_B[ADAPTER].float()
        return layers

    def start(self, layer: LoraLayer, seed: int) -> None:
        """Start values: A uniform in +-1 / sqrt(inputs), drawn on the CPU so that every device gets the same;
        B zero.

        So the adapted model begins as the base model.
        """
        down = layer.lora_A[ADAPTER].weight
        drawn = torch.empty(down.shape)
        nn.init.kaiming_uniform_(drawn, a=math.sqrt(5), generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            down.copy_(drawn)
            layer.lora_B[ADAPTER].weight.zero_()

    def parameters(self, layer: LoraLayer) -> list[nn.Parameter]:
        """What learns in a layer."""
        return [layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight]

    def weights(self, layer: LoraLayer) -> LoraWeights:
        """The layer's tensors as they are now: no copies."""
        down, up = (parameter.detach() for parameter in self.parameters(layer))
        return LoraWeights(down, up, float(layer.lora_alpha[ADAPTER]))

    def faster(self, layer: LoraLayer) -> list[nn.Parameter]:
        """The second matrix."""
        return [layer.lora_B[ADAPTER].weight]

    def state(self, layer: LoraLayer) -> dict[str, Tensor]:
        """Both matrices and the layer's own alpha, by kohya's names."""
        return to_leaves(self.weights(layer))

    def restore(self, layer: LoraLayer, state: Mapping[str, Tensor], stem: str) -> None:
        """Takes over what `state` gave."""
        if not {DOWN, UP, ALPHA} <= state.keys():
            raise InputError(f"the state is of another kind of adapter at {stem}: it has {', '.join(state)}.")
        self._load(layer, LoraWeights(state[DOWN], state[UP], float(state[ALPHA])), stem)

    def export(self, layer: LoraLayer, alpha: float) -> dict[str, Tensor]:
        """kohya's leaves; `up` takes the difference of the alphas."""
        return to_leaves(self.weights(layer), alpha)

    def read(self, path: Path, layers: Mapping[str, LoraLayer]) -> Mapping[str, Change]:
        """The changes in a file."""
        return read_changes(path)

    def take(self, layer: LoraLayer, change: Change, stem: str) -> None:
        """Values of a file; where their alpha differs, `up` takes the difference."""
        weights = change.plain()
        if weights is None:
            raise InputError(f"the file has {change.kind} at {stem}, and this network is a plain LoRA.")
        self._load(layer, weights, stem)

    def _load(self, layer: LoraLayer, weights: LoraWeights, stem: str) -> None:
        mine = self.weights(layer)
        if weights.rank != mine.rank:
            raise InputError(
                f"the file's rank is {weights.rank} and this network's is {mine.rank} (at {stem}): "
                f"set network_dim = {weights.rank}, or dim_from_weights = true."
            )
        for own, other in ((mine.down, weights.down), (mine.up, weights.up)):
            if own.shape[:2] != other.shape[:2] or own.numel() != other.numel():
                raise InputError(
                    f"{stem} does not fit the base model: its shape is {tuple(other.shape)} instead of "
                    f"{tuple(own.shape)}; it was made for another model."
                )
        mine.down.copy_(weights.down.reshape(mine.down.shape))
        mine.up.copy_(weights.up.reshape(mine.up.shape))
        if weights.alpha != mine.alpha:
            mine.up.mul_(weights.alpha / mine.alpha)

    def scaling(self, layer: LoraLayer) -> float:
        """What the layer's product is multiplied with."""
        return layer.scaling[ADAPTER]

    def set_scaling(self, layer: LoraLayer, scaling: float) -> None:
        """Sets what the layer's product is multiplied with."""
        layer.scaling[ADAPTER] = scaling


LORA = Lora()
