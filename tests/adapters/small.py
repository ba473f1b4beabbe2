"""A model of every layer that adapters change: a UNet's linear layer, convolutions and norm, and two text encoders."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from library.adapters.changes import read_changes
from library.adapters.kinds import Options
from library.adapters.metadata import save_adapter
from library.adapters.network import Network, attach
from library.lookup import ADAPTERS, HYPERNETWORK
from library.models import text

UNET = {
    "linear": "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2",
    "pointwise": "lora_unet_down_blocks_0_attentions_0_proj_in",
    "square": "lora_unet_down_blocks_0_resnets_0_conv1",
    "strided": "lora_unet_down_blocks_0_downsamplers_0_conv",
    "norm": "lora_unet_down_blocks_0_attentions_0_norm",
}
PARTS = ("unet", "text_encoder", "text_encoder_2")
KINDS = tuple(kind for kind in ADAPTERS if kind != HYPERNETWORK)  # those that change weights


class SmallUnet(nn.Module):
    """Convolutions of 1x1, 3x3 and 3x3 with a stride, a norm, and a linear layer for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.pointwise, self.square = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 12, 3, padding=1)
        self.strided, self.norm = nn.Conv2d(12, 8, 3, stride=2, padding=1, bias=False), nn.GroupNorm(4, 8)
        self.linear = nn.Linear(8, 10)
        self.checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.all, x, use_reentrant=False) if self.checkpointing else self.all(x)

    def all(self, x: Tensor) -> Tensor:
        """Everything after each other."""
        y = self.norm(self.strided(torch.tanh(self.square(torch.tanh(self.pointwise(x))))))
        found: Tensor = self.linear(y.movedim(1, -1))
        return found


def small_model() -> dict[str, nn.Module]:
    """The parts of a tiny XL model with random weights, frozen or not as made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"vocab_size": 50, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        ends = {"bos_token_id": 48, "eos_token_id": 49, "pad_token_id": 1}
        first = CLIPTextModel(CLIPTextConfig(hidden_size=8, projection_dim=8, **sizes, **ends))
        second = CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_size=12, projection_dim=6, hidden_act="gelu", **sizes, **ends)
        )
        parts = {"unet": SmallUnet(), "text_encoder": first, "text_encoder_2": second}
        for part in parts.values():
            for parameter in part.parameters():
                parameter.data = torch.randn(parameter.shape) * (0.3 if parameter.ndim > 1 else 0.1) + (
                    1.0 if parameter.ndim == 1 else 0.0
                )
    return {name: part.eval() for name, part in parts.items()}


def small_layers(modules: dict[str, nn.Module]) -> dict[str, dict[str, str]]:
    """Part -> module path -> stem."""
    return {
        "unet": dict(UNET),
        "text_encoder": text.adapter_layers(modules["text_encoder"], "lora_te1"),
        "text_encoder_2": text.adapter_layers(modules["text_encoder_2"], "lora_te2"),
    }


def attached(kind: str, modules: dict[str, nn.Module], noise: float = 0.0, dim: int = 2, **changes: object) -> Network:
    """An adapter of some kind on all layers; with `noise`, everything that learns is moved."""
    options = changes.pop("options", Options())
    layers = changes.pop("layers", None) or small_layers(modules)
    arguments = {"layers": layers, "dim": dim, "alpha": 3.0, "seed": 5} | changes
    network = attach(kind, modules, options=options, **arguments)
    if noise:
        shake(network, noise)
    return network


def shake(network: Network, noise: float, seed: int = 1) -> None:
    """Moves everything that learns by random numbers."""
    generator = torch.Generator().manual_seed(seed)
    for part in network.layers:
        for parameter in network.parameters(part):
            parameter.data += noise * torch.randn(parameter.shape, generator=generator)


def answers(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """What all parts answer to fixed inputs, with gradients."""
    pixels = torch.randn(2, 6, 6, 6, generator=torch.Generator().manual_seed(2))
    tokens = torch.tensor([[48, 3, 7, 9, 49], [48, 4, 4, 2, 49]])
    found = {"unet": modules["unet"](pixels)}
    for part in PARTS[1:]:
        found[part] = modules[part](tokens, output_hidden_states=True).hidden_states[-1]
    return found


def gradients(network: Network, modules: dict[str, nn.Module]) -> dict[str, list[Tensor | None]]:
    """The gradients of everything that learns, of the sum of all answers in uneven shares."""
    for part in network.layers:
        for parameter in network.parameters(part):
            parameter.grad = None
    for answer in answers(modules).values():
        (answer * torch.linspace(-1, 1, answer.numel()).view(answer.shape)).sum().backward()
    return {part: [each.grad for each in network.parameters(part)] for part in network.layers}


def written(network: Network, path: Path, dtype: torch.dtype | None = None) -> dict:
    """The changes that are read from the network's file."""
    save_adapter(path, network.export(), {}, dtype)
    return read_changes(path)
