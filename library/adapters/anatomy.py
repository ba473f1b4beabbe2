"""The modules of an adapter file of any kind: what each is, for a weight of which shape, and how long its change is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Leaves = Mapping[str, Tensor]

# Leaf names of kohya and LyCORIS -> the kind of adapter; the first whose name is there decides.
KIND_OF_LEAF = {
    **dict.fromkeys(("lora_down.weight", "lora_up.weight"), "lora"),
    **dict.fromkeys(("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), "loha"),
    **dict.fromkeys(("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"), "lokr"),
    "on_input": "ia3",
    **dict.fromkeys(("diff", "diff_b"), "full"),
    **dict.fromkeys(("w_norm", "b_norm"), "norm"),
    **dict.fromkeys(("oft_blocks", "oft_diag"), "oft"),
    "a1.weight": "glora",
}
LEAVES = {
    "lora": ("lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "dora_scale", "rank_stabilized"),
    "loha": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2", "alpha", "dora_scale"),
    "lokr": (
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t2",
        "alpha",
        "dora_scale",
    ),
    "ia3": ("weight", "on_input"),
    "full": ("diff", "diff_b"),
    "norm": ("w_norm", "b_norm"),
}
# How dotted layouts name the two matrices of a LoRA, PEFT's of today and those of older diffusers.
DOTTED = re.compile(r"(.+?)[._]lora[._](A|B|down|up|magnitude_vector)(?:\.default)?(?:\.weight)?")
DOTTED_LEAF = {"A": "lora_down.weight", "down": "lora_down.weight", "B": "lora_up.weight", "up": "lora_up.weight"}


@dataclass(frozen=True)
class Module:
    """One adapted module.

    `shape` is that of the weight it changes, as far as the file tells, and `norm` the length of the change (of
    (IA)^3 and OFT, the length of its own numbers). `alpha` is None where the file has none, `leaves` are the keys.
    """

    stem: str
    kind: str
    leaves: tuple[str, ...]
    rank: int | None = None
    alpha: float | None = None
    shape: tuple[int, ...] | None = None
    norm: float = 0.0
    is_finite: bool = True
    is_complete: bool = True
    magnitude: tuple[int, ...] | None = None  # the shape of DoRA's


def modules_of(tensors: Mapping[str, Tensor]) -> list[Module]:
    """Every module in the tensors of a file, in their order; what is not understood is of the kind "unknown"."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stem, leaf = split_key(key)
        groups.setdefault(stem, {})[leaf] = tensor
    return [_module(stem, leaves) for stem, leaves in groups.items()]


def context_widths(content: Any) -> list[int]:
    """The widths that a hypernetwork has networks for; none where a file's content is something else."""
    return [key for key in content if type(key) is int] if isinstance(content, Mapping) else []


def split_key(key: str) -> tuple[str, str]:
    """A key's module and leaf; the leaves of dotted layouts are given kohya's names."""
    if found := DOTTED.fullmatch(key):
        stem = found[1].replace(".processor.", ".")
        return f"{stem}.0" if stem.endswith(".to_out") else stem, DOTTED_LEAF.get(found[2], "dora_scale")
    if "." in key and key.partition(".")[0] in ("unet", "text_encoder", "text_encoder_2", "diffusion_model"):
        stem, _, leaf = key.rpartition(".")
        return stem, leaf
    stem, _, leaf = key.partition(".")
    return stem, leaf


def _module(stem: str, leaves: Leaves) -> Module:
    kind = next((kind for leaf, kind in KIND_OF_LEAF.items() if leaf in leaves), "unknown")
    is_finite = all(bool(tensor.isfinite().all()) for tensor in leaves.values())
    alpha = float(leaves["alpha"]) if "alpha" in leaves and leaves["alpha"].numel() == 1 else None
    magnitude = tuple(leaves["dora_scale"].shape) if "dora_scale" in leaves else None
    plain = Module(stem, kind, tuple(leaves), alpha=alpha, is_finite=is_finite, magnitude=magnitude)
    measure = MEASURES.get(kind, _measure_numbers)
    try:
        rank, shape, norm = measure(leaves, alpha)
    except (LookupError, RuntimeError, ValueError, TypeError, ArithmeticError):  # a leaf is missing, or two do not fit
        return Module(**{**vars(plain), "is_complete": False})
    return Module(**{**vars(plain), "rank": rank, "shape": shape, "norm": norm})


Measured = tuple[int | None, tuple[int, ...] | None, float]


def _measure_lora(leaves: Leaves, alpha: float | None) -> Measured:
    down, up = leaves["lora_down.weight"], leaves["lora_up.weight"]
    rank = down.shape[0]
    if "lora_mid.weight" in leaves:
        down = torch.einsum("mnkl,nj->mjkl", leaves["lora_mid.weight"].float(), down.float().flatten(1))
    left, right = up.double().flatten(1), down.double().flatten(1)
    # The length of a product, without making it: from what each matrix is times itself.
    squared = float(((left.T @ left) * (right @ right.T)).sum())
    scale = 1.0 if alpha is None else alpha / rank
    return rank, (up.shape[0], *down.shape[1:]), abs(scale) * max(squared, 0.0) ** 0.5


def _measure_loha(leaves: Leaves, alpha: float | None) -> Measured:
    rank = leaves["hada_w1_b"].shape[0]
    if "hada_t1" in leaves:
        halves = [
            torch.einsum(
                "ijkl,jr,ip->prkl",
                *(leaves[name].float() for name in (f"hada_t{n}", f"hada_w{n}_b", f"hada_w{n}_a")),
            )
            for n in (1, 2)
        ]
    else:
        halves = [leaves[f"hada_w{n}_a"].float() @ leaves[f"hada_w{n}_b"].float() for n in (1, 2)]
    scale = 1.0 if alpha is None else alpha / rank
    change = halves[0] * halves[1]
    return rank, tuple(change.shape), abs(scale) * float(change.double().norm())


def _measure_lokr(leaves: Leaves, alpha: float | None) -> Measured:
    rank = None
    factors = []
    for name in ("lokr_w1", "lokr_w2"):
        if name in leaves:
            factors.append(leaves[name].float())
            continue
        left, right = leaves[f"{name}_a"].float(), leaves[f"{name}_b"].float()
        rank = right.shape[0]
        if name == "lokr_w2" and "lokr_t2" in leaves:
            factors.append(torch.einsum("ijkl,jr,ip->prkl", leaves["lokr_t2"].float(), right, left))
        else:
            factors.append(left @ right)
    one, two = factors
    scale = 1.0 if alpha is None or rank is None else alpha / rank
    shape = (one.shape[0] * two.shape[0], one.shape[1] * two.shape[1], *two.shape[2:])
    return rank, shape, abs(scale) * float(one.double().norm() * two.double().norm())


def _measure_numbers(leaves: Leaves, alpha: float | None) -> Measured:
    """Of kinds whose change depends on the base weight, or is not understood."""
    numbers = [tensor for leaf, tensor in leaves.items() if leaf not in ("alpha", "on_input", "dora_scale")]
    return None, None, sum(float(tensor.double().square().sum()) for tensor in numbers) ** 0.5


def _measure_full(leaves: Leaves, alpha: float | None) -> Measured:
    shape = tuple(leaves["diff"].shape) if "diff" in leaves else None
    return None, shape, _measure_numbers(leaves, alpha)[2]


def _measure_norm(leaves: Leaves, alpha: float | None) -> Measured:
    return None, tuple(leaves["w_norm"].shape), _measure_numbers(leaves, alpha)[2]


MEASURES = {
    "lora": _measure_lora,
    "loha": _measure_loha,
    "lokr": _measure_lokr,
    "full": _measure_full,
    "norm": _measure_norm,
}
