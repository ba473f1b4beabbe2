"""The files of hypernetworks, as AUTOMATIC1111's web UI and ComfyUI read them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.adapters.anatomy import Module, context_widths
from library.adapters.hypernetwork import READERS, ContextNetwork, Form
from library.documents import read_json
from library.errors import InputError
from library.files import write_atomically
from library.lookup import ACTIVATIONS, HYPERNETWORK
from library.weights import load_weights_only

Pair = tuple[ContextNetwork, ContextNetwork]
OLD_NAMES = {"linear1": "linear.0", "linear2": "linear.1"}  # of the first files, which had two layers
START = "KaimingUniform"  # how the first matrices are drawn, in the words of that program


@dataclass(frozen=True)
class HypernetworkFile:
    """A hypernetwork: for each width of context the networks for keys and for values, and what the file tells."""

    name: str
    form: Form
    pairs: Mapping[int, Pair]
    step: int = 0
    checkpoint: str | None = None  # the hash of the base model
    checkpoint_name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32  # of the numbers in the file


def read_hypernetwork(path: Path) -> HypernetworkFile | None:
    """The hypernetwork in a file; None where the file is something else.

    Raises InputError for one that is incomplete, damaged, or of a form that is not known here.
    """
    if Path(path).suffix.lower() == ".safetensors":
        return None
    content = load_weights_only(Path(path))
    widths = context_widths(content)
    if not widths:
        return None
    form = _form_of(content, path)
    told = {name: value if isinstance(value, str) else None for name, value in content.items()}
    return HypernetworkFile(
        told.get("name") or Path(path).stem,
        form,
        {width: _pair(content[width], width, form, path) for width in widths},
        content["step"] if type(content.get("step")) is int else 0,
        told.get("sd_checkpoint"),
        told.get("sd_checkpoint_name"),
        {key: value for key, value in read_json(told.get("optional_info")).items() if isinstance(value, str)},
        next(iter(content[widths[0]][0].values())).dtype,
    )


def write_hypernetwork(path: Path, found: HypernetworkFile, dtype: torch.dtype | None = None) -> None:
    """Writes the .pt file in torch's old form, which is the one that AUTOMATIC1111 opens, and reads it back.

    Raises RuntimeError if it then differs.
    """
    form = found.form
    content: dict[Any, Any] = {
        width: tuple(_tensors(network, dtype) for network in pair) for width, pair in sorted(found.pairs.items())
    }
    content |= {
        "step": found.step,
        "name": found.name,
        "layer_structure": list(form.structure),
        "activation_func": form.activation,
        "is_layer_norm": form.layer_norm,
        "weight_initialization": START,
        "sd_checkpoint": found.checkpoint,
        "sd_checkpoint_name": found.checkpoint_name,
        "activate_output": form.activate_output,
        "use_dropout": False,
        "dropout_structure": None,
        "last_layer_dropout": False,
        "optional_info": json.dumps(dict(found.metadata), ensure_ascii=False) if found.metadata else None,
    }
    write_atomically(path, lambda file: torch.save(content, file, _use_new_zipfile_serialization=False))
    written = load_weights_only(path)
    for width in found.pairs:
        for mine, theirs in zip(content[width], written[width], strict=True):
            if mine.keys() != theirs.keys() or any(not torch.equal(mine[name], theirs[name]) for name in mine):
                raise RuntimeError(f"{path} was not written rightly: its numbers differ from memory.")
    if any(content[key] != written[key] for key in content if isinstance(key, str)):
        raise RuntimeError(f"{path} was not written rightly: what it says of itself differs from memory.")


def modules_in(found: HypernetworkFile) -> list[Module]:
    """Its networks as modules of an adapter file; their norm is the length of the last layer's numbers."""
    modules = []
    for width, pair in found.pairs.items():
        for reader, network in zip(READERS, pair, strict=True):
            numbers = [each.detach().double() for each in network.matrices[-1].parameters()]
            length = float(sum((each**2).sum() for each in numbers) ** 0.5)
            tensors = dict(network.named_parameters())
            is_finite = all(bool(each.isfinite().all()) for each in tensors.values())
            stem = f"{width}.{reader}"
            modules.append(Module(stem, HYPERNETWORK, tuple(tensors), None, None, (width, width), length, is_finite))
    return modules


def _form_of(content: Mapping[Any, Any], path: Path) -> Form:
    """How the networks are built; what a file does not say is as in its first versions."""
    structure, activation = content.get("layer_structure", [1, 2, 1]), content.get("activation_func") or "linear"
    is_sane = isinstance(structure, list | tuple) and len(structure) > 1
    if not is_sane or not all(type(each) in (int, float) and 0 < each < 100 for each in structure):
        raise InputError(f"{path}: a hypernetwork's layer_structure cannot be {structure!r}.")
    if activation not in ACTIVATIONS:
        allowed = ", ".join(ACTIVATIONS)
        raise InputError(f"{path}: the activation {activation!r} is not known here; there are {allowed}.")
    is_active = bool(content.get("activate_output", True))
    return Form(tuple(structure), activation, is_active, bool(content.get("is_layer_norm", False)))


def _pair(content: Any, width: int, form: Form, path: Path) -> Pair:
    """The networks for keys and values."""
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise InputError(f"{path} is damaged: a hypernetwork has two networks for the width {width}.")
    first, second = (_network(each, width, form, path) for each in content)
    return first, second


def _network(state: Any, width: int, form: Form, path: Path) -> ContextNetwork:
    """A network from its tensors, whose numbers may have gaps where dropout was."""
    groups: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items() if isinstance(state, Mapping) else ():
        for old, new in OLD_NAMES.items():
            key = re.sub(rf"^{old}\.", f"{new}.", str(key))
        if (found := re.fullmatch(r"linear\.(\d+)\.(weight|bias)", key)) and isinstance(tensor, Tensor):
            groups.setdefault(int(found[1]), {})[found[2]] = tensor
    network = ContextNetwork(width, form)
    layers = [layer for layer in network.linear if isinstance(layer, nn.Linear | nn.LayerNorm)]
    given = [groups[number] for number in sorted(groups)]
    needed = [_shapes(dict(layer.named_parameters())) for layer in layers]
    if needed != [_shapes(tensors) for tensors in given]:
        raise InputError(f"{path} is damaged: a network for the width {width} does not have the layers that it names.")
    for layer, tensors in zip(layers, given, strict=True):
        layer.load_state_dict(tensors)
    return network.requires_grad_(False).eval()


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _tensors(network: ContextNetwork, dtype: torch.dtype | None) -> dict[str, Tensor]:
    """Copies on the CPU by the names of the file."""
    named = network.named_parameters()
    return {name: tensor.detach().to("cpu", dtype or torch.float32, copy=True) for name, tensor in named}
