"""What UNets whose layers read the same text and time answer and learn, for comparing two ways to compute it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from library.adapters.kinds import Options
from library.adapters.network import Network, attach
from library.adapters.shared import SharedLinear

ENDS = ("to_k", "to_v", "time_emb_proj")
READERS, TIMES = 2 * 4, 8
SHARED = READERS + TIMES


def shares(unet: nn.Module) -> int:
    """How many layers take their outputs from the tensor that they read."""
    return sum(isinstance(each.forward, SharedLinear) for each in unet.modules())


def adapted(unet: nn.Module, kind: str, options: Options, dims: Callable[[str], int] = lambda _: 3) -> Network:
    """An adapter of random values on what reads texts and times, and on all other K and V; ranks by path."""
    paths = [path for path, each in unet.named_modules() if isinstance(each, nn.Linear) and path.endswith(ENDS)]
    if kind == "hypernetwork":
        paths = [path for path in paths if not path.endswith("proj")]
    stems = {path: "lora_unet_" + path.replace(".", "_") for path in paths}
    ranks = {stem: rank for path, stem in stems.items() if (rank := dims(path))}
    network = attach(kind, {"unet": unet}, {"unet": stems}, ranks, 2.0, 1, options)
    generator = torch.Generator().manual_seed(4)
    for parameter in network.parameters("unet"):
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network


def asked(unet: nn.Module, text: Tensor, more: dict[str, Any] | None = None, size: int = 8) -> Tensor:
    """The UNet's answer to something noisy and a text."""
    noisy = torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(6)).to(text.dtype)
    told = {} if more is None else {"added_cond_kwargs": more}
    answer: Tensor = unet(noisy, torch.tensor([10, 700]), encoder_hidden_states=text, **told).sample
    return answer


def learned(unet: nn.Module, network: Network | None, *texts: Tensor, more: Any = None) -> dict[str, Tensor]:
    """The answers to texts, and the gradients of the adapter and of the texts for all answers at once."""
    torch.manual_seed(3)  # for dropout
    answers = [asked(unet, text, more) for text in texts]
    found = {f"answer {place}": answer.detach() for place, answer in enumerate(answers)}
    total = sum((answer.float() * torch.linspace(-1, 1, answer.numel()).view_as(answer)).sum() for answer in answers)
    total.backward()
    for stem, parameters in network.by_layer("unet").items() if network else ():
        for place, parameter in enumerate(parameters):
            if parameter.grad is not None:
                found[f"{stem} {place}"], parameter.grad = parameter.grad, None
    for place, text in enumerate(texts):
        if text.grad is not None:
            found[f"text {place}"], text.grad = text.grad, None
    return found


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], by: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].float() - value.float()).norm() <= by * value.float().norm() + 1e-9, (
            name
        )  # a bias of K has none
