"""A toy SD1 model, the layers that adapters take there, and adapters with random values."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from library.adapters.network import Network, attach
from library.models.family import Family, open_family
from tests.toys import TEXT_WIDTH, write_toy_sd1

Modules = dict[str, nn.Module]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy model, which no test may change."""
    return write_toy_sd1(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def family(folder: Path) -> Family:
    """The toy's family."""
    return open_family(str(folder))


@pytest.fixture(scope="session")
def _loaded(family: Family) -> Modules:
    return {
        "unet": family.load_unet(torch.float32).eval(),
        "text_encoder": family.load_text_encoders(torch.float32)[0].eval(),
    }


@pytest.fixture
def modules(_loaded: Modules) -> Modules:
    """The toy's UNet and text encoder, in evaluation mode, for one test alone."""
    return {part: copy.deepcopy(module) for part, module in _loaded.items()}


@pytest.fixture
def layers(family: Family, modules: Modules) -> dict[str, dict[str, str]]:
    """Part -> module path -> stem."""
    return {part: family.adapter_layers(module, part) for part, module in modules.items()}


@pytest.fixture
def make(modules: Modules, layers: dict[str, dict[str, str]]) -> Callable[..., Network]:
    """Attaches an adapter of random values to the toy, so that it does something."""

    def attached(seed: int = 1, onto: Modules | None = None, **changes: Any) -> Network:
        arguments = {"kind": "lora", "modules": onto or modules, "layers": layers, "dim": 4, "alpha": 2.0}
        network = attach(**(arguments | changes), seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in (each for part in network.layers for each in network.parameters(part)):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        return network

    return attached


@pytest.fixture(scope="session")
def unet_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, timesteps, and a text encoder's hidden states."""
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    return noisy, torch.tensor([10, 700]), torch.randn(2, 77, TEXT_WIDTH, generator=generator)


@pytest.fixture
def run(unet_inputs: tuple[Tensor, Tensor, Tensor]) -> Callable[[Modules], dict[str, Tensor]]:
    """What both modules of a model answer to fixed inputs."""

    @torch.no_grad()
    def outputs(modules: Modules) -> dict[str, Tensor]:
        tokens = torch.arange(154).reshape(2, 77)
        return {
            "unet": modules["unet"](*unet_inputs).sample,
            "text_encoder": modules["text_encoder"](tokens).last_hidden_state,
        }

    return outputs
