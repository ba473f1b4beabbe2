"""Adapters of every kind as other programs write them: random values, and the change that they stand for."""

from collections.abc import Callable

import torch
from torch import Tensor

Leaves = dict[str, Tensor]
OUT, IN, RANK, ALPHA = 12, 8, 4, 2.0


def drawn(*shape: int) -> Tensor:
    """Random values."""
    return torch.randn(*shape)


def lora() -> tuple[Leaves, Tensor]:
    """A plain pair."""
    down, up = drawn(RANK, IN), drawn(OUT, RANK)
    return {"lora_down.weight": down, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}, ALPHA / RANK * up @ down


def lora_conv() -> tuple[Leaves, Tensor]:
    """A 3x3 convolution without an alpha, whose scale is 1."""
    down, up = drawn(RANK, IN, 3, 3), drawn(OUT, RANK, 1, 1)
    return {"lora_down.weight": down, "lora_up.weight": up}, torch.einsum("or,rikl->oikl", up[..., 0, 0], down)


def lora_mid() -> tuple[Leaves, Tensor]:
    """A 3x3 convolution as three tensors."""
    down, mid, up = drawn(RANK, IN, 1, 1), drawn(RANK, RANK, 3, 3), drawn(OUT, RANK, 1, 1)
    change = torch.einsum("om,mnkl,ni->oikl", up[..., 0, 0], mid, down[..., 0, 0])
    leaves = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up, "alpha": torch.tensor(ALPHA)}
    return leaves, ALPHA / RANK * change


def loha() -> tuple[Leaves, Tensor]:
    """The elementwise product of two low ranks."""
    one, two, three, four = drawn(OUT, RANK), drawn(RANK, IN), drawn(OUT, RANK), drawn(RANK, IN)
    leaves = {"hada_w1_a": one, "hada_w1_b": two, "hada_w2_a": three, "hada_w2_b": four, "alpha": torch.tensor(ALPHA)}
    return leaves, ALPHA / RANK * (one @ two) * (three @ four)


def loha_tucker() -> tuple[Leaves, Tensor]:
    """The same for a convolution, with cores; its `_a` are turned."""
    leaves: Leaves = {"alpha": torch.tensor(ALPHA)}
    halves = []
    for number in (1, 2):
        core, left, right = drawn(RANK, RANK, 3, 3), drawn(RANK, OUT), drawn(RANK, IN)
        leaves |= {f"hada_t{number}": core, f"hada_w{number}_a": left, f"hada_w{number}_b": right}
        halves.append(torch.einsum("abkl,ao,bi->oikl", core, left, right))
    return leaves, ALPHA / RANK * halves[0] * halves[1]


def lokr_full() -> tuple[Leaves, Tensor]:
    """Two whole factors, at which alpha does not count."""
    one, two = drawn(3, 2), drawn(4, 4)
    return {"lokr_w1": one, "lokr_w2": two, "alpha": torch.tensor(ALPHA)}, torch.kron(one, two)


def lokr() -> tuple[Leaves, Tensor]:
    """The second factor of low rank."""
    one, left, right = drawn(3, 2), drawn(4, RANK), drawn(RANK, 4)
    leaves = {"lokr_w1": one, "lokr_w2_a": left, "lokr_w2_b": right, "alpha": torch.tensor(ALPHA)}
    return leaves, ALPHA / RANK * torch.kron(one, left @ right)


def full() -> tuple[Leaves, Tensor]:
    """The change itself."""
    change = drawn(OUT, IN)
    return {"diff": change}, change


KINDS: dict[str, tuple[str, Callable[[], tuple[Leaves, Tensor]]]] = {
    "lora": ("lora", lora),
    "lora of a convolution": ("lora", lora_conv),
    "lora with a middle": ("lora", lora_mid),
    "loha": ("loha", loha),
    "loha with cores": ("loha", loha_tucker),
    "lokr of whole factors": ("lokr", lokr_full),
    "lokr": ("lokr", lokr),
    "full": ("full", full),
}


def named(stem: str, leaves: Leaves) -> dict[str, Tensor]:
    """The tensors as they stand in a file."""
    return {f"{stem}.{leaf}": tensor.clone() for leaf, tensor in leaves.items()}
