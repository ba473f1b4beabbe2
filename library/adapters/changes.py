"""The change of a weight that a file of any kind of adapter asks for, as the UIs compute it."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from library.adapters.anatomy import KIND_OF_LEAF, LEAVES, context_widths, split_key
from library.adapters.keys import ALPHA, DOWN, MID, UP, LoraWeights, parse_adapter, unknown_key
from library.errors import InputError, blaming
from library.weights import load_any, load_weights_only, read_header

Leaves = Mapping[str, Tensor]
PLAIN = {DOWN, UP, ALPHA, MID}
EXTRACTING = (
    "Put it into its model with tools/merge_lora.py --model, and take a LoRA of any rank from that with "
    "tools/extract_lora.py."
)
MAGNITUDE = "dora_scale"
NEEDED: dict[str, tuple[tuple[str, ...], ...]] = {  # of each kind, sets of leaves, of which one must be there
    "lora": ((DOWN, UP),),
    "loha": (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),),
    "lokr": (
        ("lokr_w1", "lokr_w2"),
        ("lokr_w1_a", "lokr_w1_b", "lokr_w2"),
        ("lokr_w1", "lokr_w2_a", "lokr_w2_b"),
        ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"),
    ),
    "ia3": (("weight", "on_input"),),
    "full": (("diff",),),
    "norm": (("w_norm", "b_norm"),),
}
WORDS = {"loha": "LoHa", "lokr": "LoKr", "ia3": "(IA)^3", "full": "whole differences", "norm": "changes of norms"}
# Cores of Tucker's form, and the matrices to the left and right of each.
CORES = {MID: (None, DOWN), "hada_t1": ("hada_w1_a", "hada_w1_b"), "hada_t2": ("hada_w2_a", "hada_w2_b")}
CORES["lokr_t2"] = ("lokr_w2_a", "lokr_w2_b")
WEIGHT, BIAS = {"full": "diff", "norm": "w_norm"}, {"full": "diff_b", "norm": "b_norm"}


class Change(NamedTuple):
    """What a file says of one layer: the kind, and its tensors by their last names."""

    kind: str
    leaves: dict[str, Tensor]

    @property
    def rank(self) -> int | None:
        """The inner width, where the kind has one."""
        names = [DOWN, "hada_w1_b", "lokr_w1_b", "lokr_w2_b"]
        return next((self.leaves[name].shape[0] for name in names if name in self.leaves), None)

    @property
    def scale(self) -> float:
        """alpha / rank; 1 without an alpha, and for LoKr whose two factors are both whole."""
        if ALPHA not in self.leaves or self.rank is None:
            return 1.0
        return float(self.leaves[ALPHA]) / self.rank

    @property
    def bias(self) -> Tensor | None:
        """What is added to the bias, if anything is."""
        return self.leaves.get(BIAS.get(self.kind, ""))

    def plain(self) -> LoraWeights | None:
        """The two matrices of a plain LoRA; None for anything else."""
        if self.kind != "lora" or MAGNITUDE in self.leaves:
            return None
        leaves = self.coreless().leaves
        return LoraWeights(leaves[DOWN], leaves[UP], self.scale * leaves[DOWN].shape[0])

    def coreless(self) -> "Change":
        """The same without cores: each is multiplied into the matrix to its right, exactly and at the same rank."""
        leaves = dict(self.leaves)
        for core, (left, right) in CORES.items():
            if core in leaves:
                whole = folded(leaves.pop(core).float(), leaves[right].float().flatten(1))
                leaves[right] = whole if core == MID else whole.flatten(1)
                if left:
                    leaves[left] = leaves[left].T
        return Change(self.kind, leaves)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether this is the change of a weight of that shape; ones at the end may be left out."""
        if self.kind == "ia3":
            axis = min(int(self.leaves["on_input"]), 1)
            return len(shape) > axis and self.leaves["weight"].numel() == shape[axis]
        own = self.shape
        return own[0] == shape[0] and math.prod(own[1:]) == math.prod(shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight it changes, as far as the file tells: inputs and kernel may be one number."""
        return tuple(SHAPES[self.kind](self.leaves))

    def of(self, weight: Tensor) -> Tensor:
        """The change of `weight`, float32, in its shape and on its device.

        With DoRA's magnitudes m it is m (W + change) / norm - W, where the norm is that of each input (m is
        (1, inputs)) or each output, over all other dimensions.
        """
        leaves = {name: tensor.to(weight.device).float() for name, tensor in self.leaves.items()}
        base = weight.detach().float()
        change = self.scale * CHANGES[self.kind](leaves, base).reshape(base.shape)
        if MAGNITUDE not in leaves:
            return change
        magnitude = leaves[MAGNITUDE].reshape(*leaves[MAGNITUDE].shape[:2], *(1,) * (base.ndim - 2))
        kept = 1 if magnitude.shape[0] == 1 else 0
        turned = base + change
        dims = [each for each in range(base.ndim) if each != kept]
        return turned * (magnitude / torch.linalg.vector_norm(turned, dim=dims, keepdim=True)) - base


def folded(core: Tensor, right: Tensor) -> Tensor:
    """A core (rank, rank, height, width) times (rank, inputs): (rank, inputs, height, width)."""
    return torch.einsum("ijkl,jr->irkl", core, right)


def of_lora(layer: LoraWeights) -> Change:
    """A plain LoRA as a change."""
    return Change("lora", {DOWN: layer.down, UP: layer.up, ALPHA: torch.tensor(layer.alpha)})


def read_changes(path: Path) -> dict[str, Change]:
    """Every layer of an adapter file of any kind, in kohya's or diffusers' layout, by its stem.

    Raises InputError if the file is no adapter, incomplete, or of a kind that is not known.
    """
    metadata = read_header(path)[0] if Path(path).suffix.lower() == ".safetensors" else {}
    tensors = load_any(path)
    if not tensors and Path(path).suffix.lower() != ".safetensors" and context_widths(load_weights_only(path)):
        raise InputError(
            f"{path} is a hypernetwork: it changes what attention reads and no weight, so that only drawing knows it "
            "(tools/generate.py --lora, or <hypernet:NAME:1> in AUTOMATIC1111)."
        )
    with blaming(path):
        return parse_changes(tensors, metadata, str(path))


def parse_changes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], name: str) -> dict[str, Change]:
    """The layers in the tensors of a file; `name` is for the error messages."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stem, leaf = split_key(key)
        groups.setdefault(stem, {})[leaf] = tensor
    known = {leaf for leaves in groups.values() for leaf in leaves} & KIND_OF_LEAF.keys()
    if not known - PLAIN and not any(MAGNITUDE in leaves for leaves in groups.values()):
        return {stem: of_lora(layer) for stem, layer in parse_adapter(tensors, metadata, name).items()}
    changes = {}
    for stem, leaves in groups.items():
        kind = next((KIND_OF_LEAF[leaf] for leaf in KIND_OF_LEAF if leaf in leaves), "")
        strange = [leaf for leaf in leaves if leaf not in LEAVES.get(kind, ())]
        if kind not in NEEDED or strange or "." in stem:
            raise unknown_key(f"{stem}.{next(iter(strange or leaves))}", name)
        if not any(leaves.keys() >= set(needed) for needed in NEEDED[kind]):
            raise InputError(f'{name} is incomplete: "{stem}" has {", ".join(leaves)} and lacks the rest.')
        changes[stem] = Change(kind, leaves)
    return changes


def plain_layers(
    changes: Mapping[str, Change], name: str, done: str, remedy: str = EXTRACTING
) -> dict[str, LoraWeights]:
    """The layers of a file that holds plain LoRA and nothing else, which alone can be `done`, such as "resized".

    Raises InputError naming what else is in it, and the way that leads on from there.
    """
    layers = {stem: layer for stem, change in changes.items() if (layer := change.plain()) is not None}
    if len(layers) < len(changes):
        others = Counter(WORDS.get(change.kind, "DoRA") for stem, change in changes.items() if stem not in layers)
        found = ", ".join(f"{count} layer{'s' * (count > 1)} of {word}" for word, count in others.items())
        raise InputError(f"{name} has {found}, and only plain LoRA can be {done}. {remedy}")
    return layers


def _lora(leaves: Leaves, weight: Tensor) -> Tensor:
    down = leaves[DOWN].flatten(1)
    if MID in leaves:
        down = folded(leaves[MID], down).flatten(1)
    return leaves[UP].flatten(1) @ down


def _loha(leaves: Leaves, weight: Tensor) -> Tensor:
    halves = []
    for number in (1, 2):
        left, right = leaves[f"hada_w{number}_a"], leaves[f"hada_w{number}_b"]
        halves.append(_core(leaves[f"hada_t{number}"], left, right) if f"hada_t{number}" in leaves else left @ right)
    return halves[0] * halves[1]


def _lokr(leaves: Leaves, weight: Tensor) -> Tensor:
    one = leaves["lokr_w1"] if "lokr_w1" in leaves else leaves["lokr_w1_a"] @ leaves["lokr_w1_b"]
    if "lokr_w2" in leaves:
        two = leaves["lokr_w2"]
    elif "lokr_t2" in leaves:
        two = _core(leaves["lokr_t2"], leaves["lokr_w2_a"], leaves["lokr_w2_b"])
    else:
        two = leaves["lokr_w2_a"] @ leaves["lokr_w2_b"]
    # Inputs of a decomposed factor are (inputs * kernel); those of the weight are (inputs of 1, inputs of 2, kernel).
    return torch.einsum("ai,bj->abij", one, two.flatten(1)).reshape(one.shape[0] * two.shape[0], -1)


def _core(core: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """A Tucker product: core (r, r, height, width), left (r, outputs), right (r, inputs)."""
    return torch.einsum("ijkl,jr,ip->prkl", core, right, left)


def _ia3(leaves: Leaves, weight: Tensor) -> Tensor:
    axis = int(leaves["on_input"] != 0)
    return weight * leaves["weight"].reshape([-1 if each == axis else 1 for each in range(weight.ndim)])


def _lokr_shape(leaves: Leaves) -> tuple[int, ...]:
    one = leaves["lokr_w1"].shape if "lokr_w1" in leaves else (len(leaves["lokr_w1_a"]), leaves["lokr_w1_b"].shape[1])
    if "lokr_w2" in leaves:
        two = tuple(leaves["lokr_w2"].shape)
    elif "lokr_t2" in leaves:
        two = (leaves["lokr_w2_a"].shape[1], leaves["lokr_w2_b"].shape[1], *leaves["lokr_t2"].shape[2:])
    else:
        two = (leaves["lokr_w2_a"].shape[0], leaves["lokr_w2_b"].shape[1])
    return one[0] * two[0], one[1] * two[1], *two[2:]


def _loha_shape(leaves: Leaves) -> tuple[int, ...]:
    left, right = leaves["hada_w1_a"].shape, leaves["hada_w1_b"].shape
    if "hada_t1" in leaves:
        return left[1], right[1], *leaves["hada_t1"].shape[2:]
    return left[0], right[1]


CHANGES: dict[str, Callable[[Leaves, Tensor], Tensor]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "ia3": _ia3,
    "full": lambda leaves, weight: leaves["diff"],
    "norm": lambda leaves, weight: leaves["w_norm"],
}
SHAPES: dict[str, Callable[[Leaves], tuple[int, ...]]] = {
    "lora": lambda leaves: (
        len(leaves[UP]),
        *leaves[DOWN].shape[1:],
        *(leaves[MID].shape[2:] if MID in leaves else ()),
    ),
    "loha": _loha_shape,
    "lokr": _lokr_shape,
    "ia3": lambda leaves: tuple(leaves["weight"].shape),
    "full": lambda leaves: tuple(leaves["diff"].shape),
    "norm": lambda leaves: tuple(leaves["w_norm"].shape),
}
