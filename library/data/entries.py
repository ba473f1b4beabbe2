"""Small files of tensors, named by what they are made from: never stale or half written, and damage is noticed."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from library.errors import InputError
from library.weights import save_tensors

DIGEST = "digest"


def entry_path(folder: Path, parts: Iterable[object]) -> Path:
    """The file in `folder` that holds, or would hold, what is made from `parts`."""
    name = sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:40]
    return folder / name[:2] / f"{name}.safetensors"


def read_entry(path: Path, names: Sequence[str]) -> tuple[Tensor, ...] | None:
    """The tensors of these names, in the order they were written in; None where there is no entry or a damaged one."""
    try:
        # Read at once, so that another process may replace the file at any moment.
        tensors = load(path.read_bytes())
    except (OSError, SafetensorError, ValueError, KeyError):
        return None
    if tensors.keys() != {*names, DIGEST}:
        return None
    wanted = tuple(tensors[name] for name in names)
    return wanted if torch.equal(tensors[DIGEST], _digest(wanted)) else None


def write_entry(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes an entry, whole or not at all; the tensors may be of any dtype and on any device, and become float32."""
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_tensors(path, {**plain, DIGEST: _digest(plain.values())})
    except OSError as error:
        reason = f"{path}: {error.strerror or error}"
        raise InputError(f"the cache cannot be written ({reason}); choose another cache_dir.") from error


def _digest(tensors: Iterable[Tensor]) -> Tensor:
    """A hash of values and shapes, (32,) uint8, which finds changed bytes where the file's form is intact."""
    digest = sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)
