"""Files of tensors: written whole or not at all, read without running code, and named by hashes."""

import hashlib
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor
from tqdm import tqdm

from library.documents import parse_json
from library.errors import STUMBLES, InputError, blaming, is_full_memory
from library.files import is_endless, write_atomically

Header = tuple[dict[str, str], dict[str, tuple[str, tuple[int, ...]]]]

DEEPEST = 5  # state_dicts within each other; two is the most that anybody writes
LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format
LEGACY_OFFSET, LEGACY_SIZE = 0x100000, 0x10000  # the 64 KiB that AUTOMATIC1111 once took for the whole file

# Bits of a number, by the header's words; those of other formats are left to the library that reads them.
BITS = {"F64": 64, "I64": 64, "F32": 32, "I32": 32, "F16": 16, "BF16": 16, "I16": 16, "I8": 8, "U8": 8, "BOOL": 8}
FORMATS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}  # number formats by the header's words

# What checkpoints of the first trainers hold beside tensors. Nothing of it is used, so it need not be itself.
HARMLESS_PACKAGES = ("pytorch_lightning.", "lightning.")


@dataclass(frozen=True)
class Later:
    """A tensor of a known shape that is made when it is written, so that large files need little memory."""

    shape: torch.Size
    make: Callable[[], Tensor]
    dtype: torch.dtype = torch.float32

    def to(self, *where: Any) -> Tensor:
        """The tensor, made now."""
        return self.make().to(*where)


class _StandIn:
    """Takes the place of an object that a checkpoint carries and nobody needs; it does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file, whole or not at all; the tensors may lie on any device."""
    plain = _plain(tensors)
    words = dict(metadata) if metadata else None
    write_atomically(path, lambda unfinished: save_file(plain, unfinished, metadata=words))


def stream_tensors(
    path: Path,
    tensors: Mapping[str, Tensor | Later],
    dtype: torch.dtype | None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes a safetensors file with one tensor after the other in memory, whole or not at all.

    Args:
        tensors: in the order in which they are written; `Later` ones are made in their turn
        dtype: the number format of all of them in the file; None leaves each its own, see `written_format`

    Raises RuntimeError if the file, read back, does not hold the bytes that were written.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        kind = written_format(tensor, dtype)
        start, end = end, end + tensor.shape.numel() * kind.itemsize
        header[name] = {"dtype": FORMATS[kind], "shape": list(tensor.shape), "data_offsets": [start, end]}
    words = json.dumps(header, ensure_ascii=False).encode()
    words += b" " * (-len(words) % 8)  # the format wants the tensors to begin at a multiple of 8

    def write(unfinished: Path) -> None:
        digest = hashlib.sha256()
        with open(unfinished, "wb") as file:
            file.write(len(words).to_bytes(8, "little") + words)
            for tensor in tqdm(tensors.values(), f"writing {Path(path).name}", unit="tensor", delay=1, leave=False):
                content = bytes_of(tensor.to("cpu", written_format(tensor, dtype)))
                digest.update(content)
                file.write(content)
        with open(unfinished, "rb") as file:
            file.seek(8 + len(words))
            if hashlib.file_digest(file, "sha256").digest() != digest.digest():
                raise RuntimeError(f"{path} was not written rightly: what is on the disk differs from memory.")

    write_atomically(path, write)


def written_format(tensor: Tensor | Later, dtype: torch.dtype | None) -> torch.dtype:
    """The number format that a tensor is written in: `dtype`, or its own, or float32 for those that few can read."""
    own = tensor.dtype if tensor.dtype in FORMATS else torch.float32
    return own if dtype is None else dtype


def read_header(path: Path) -> Header:
    """A safetensors file's metadata and, for each tensor, its dtype ("F16") and shape, without the tensors.

    Raises InputError for a file that is missing, broken or cut short.
    """
    path = Path(path)
    _check_kind(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            is_sane = len(start) == 8 and length <= min(size - 8, LARGEST_HEADER)
            content = file.read(length) if is_sane else b""
        metadata, entries, room = _parsed(content)
        end = 8 + length + room
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: {_what_it_is_instead(path)}") from None
    if size < end:
        raise InputError(
            f"{path}: the file is cut short: {size} bytes are there of {end}. Copy or download it once more."
        )
    return metadata, entries


def load_tensors(path: Path, keys: Collection[str] | None = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file on the CPU; only those named by `keys` if given."""
    read_header(path)
    try:
        with blaming(path), safe_open(path, framework="pt") as file:
            names = [key for key in file.keys() if keys is None or key in keys]  # noqa: SIM118  it is no dict
            return {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        if is_full_memory(error):
            raise
        raise InputError(f"{path}: the file is broken ({error}). Copy or download it once more.") from None


def read_checkpoint(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The texts and the tensors of a .ckpt, .pt or .bin file by their names, those inside "state_dict" too.

    Runs no code of the file's; tensors are read from the disk when used, where the file's form allows it.
    Raises InputError for broken files and for files that hold more than weights.
    """
    content = load_weights_only(Path(path))
    texts: dict[str, str] = {}
    for _ in range(DEEPEST):
        if not isinstance(content, Mapping):
            break
        texts |= {str(key): value for key, value in content.items() if isinstance(value, str)}
        if not isinstance(content.get("state_dict"), Mapping):
            return texts, {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = content["state_dict"]
    found = "state_dicts within each other" if isinstance(content, Mapping) else f"a {type(content).__name__}"
    raise InputError(f"{path}: the file holds {found} and no named tensors.")


def load_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a .ckpt, .pt or .bin file; see `read_checkpoint`."""
    return read_checkpoint(path)[1]


def load_any(path: Path) -> dict[str, Tensor]:
    """The tensors of a file in either form: .safetensors, or a pickled checkpoint of any other name."""
    return load_tensors(path) if Path(path).suffix.lower() == ".safetensors" else load_checkpoint(path)


def load_weights_only(path: Path) -> Any:
    """What torch.load gives without running any code of the file's; InputError for what is broken or more than that."""
    options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
    _check_kind(Path(path))
    try:
        if not Path(path).stat().st_size:
            raise InputError(f"{path}: the file is empty.")
        is_zip = zipfile.is_zipfile(path)
        strangers = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zip else []
        if strangers and all(name.startswith(HARMLESS_PACKAGES) for name in strangers):
            with torch.serialization.safe_globals([(_StandIn, name) for name in strangers]):
                return torch.load(path, mmap=is_zip, **options)
        return torch.load(path, mmap=is_zip, **options)
    except OSError as error:
        if is_full_memory(error):
            raise
        raise InputError(f"{path}: the file cannot be read ({error.strerror or error}).") from None
    except pickle.UnpicklingError:
        found = f" ({', '.join(strangers)})" if strangers else ""
        raise InputError(
            f"{path}: the file is broken, or holds more than weights{found} and could run code, so it is not "
            "loaded. Get the model as .safetensors."
        ) from None
    except (*STUMBLES, EOFError, AssertionError, struct.error, zipfile.BadZipFile) as error:
        if is_full_memory(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: the file is broken ({reason}).") from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a whole file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def legacy_hash(path: Path) -> str:
    """AUTOMATIC1111's old short name of a model: 8 hex digits, the SHA-256 of 64 KiB at 1 MiB into it."""
    with open(path, "rb") as file:
        file.seek(LEGACY_OFFSET)
        return hashlib.sha256(file.read(LEGACY_SIZE)).hexdigest()[:8]


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of what follows the header in a safetensors file of these tensors, kohya's `sshs_model_hash`.

    It does not depend on the metadata, so anyone can compute it again from the file.
    """
    content = memoryview(save(_plain(tensors)))
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def tensors_legacy_hash(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """kohya's `sshs_legacy_hash`: the short name of a file that has only the `ss_*` part of `metadata`."""
    words = {key: value for key, value in metadata.items() if key.startswith("ss_")}
    content = memoryview(save(_plain(tensors), words))
    return hashlib.sha256(content[LEGACY_OFFSET : LEGACY_OFFSET + LEGACY_SIZE]).hexdigest()[:8]


def content_hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """A hash of names, dtypes, shapes and values, the same for every kind of file; 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """The tensor's numbers as they lie in a file."""
    return memoryview(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as safetensors wants them: detached, on the CPU, contiguous."""
    return {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}


def _check_kind(path: Path) -> None:
    """Raises InputError for a pipe or a device, which would be waited for without end."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the file cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if is_endless(path):
        raise InputError(f"{path}: this is no file but a pipe or a device; copy what comes out of it into a file.")


def _parsed(content: bytes) -> tuple[dict[str, str], dict[str, tuple[str, tuple[int, ...]]], int]:
    """Metadata, dtypes and shapes of a header, and the bytes of tensors behind it.

    Raises ValueError, KeyError, TypeError or AttributeError where it is none.
    """
    header = parse_json(content.decode("utf-8"))
    metadata = header.pop("__metadata__", None) or {}
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("the metadata are not texts")
    entries, end = {}, 0
    for key, entry in header.items():
        kind, shape, offsets = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        first, last = offsets
        if not isinstance(kind, str) or not all(type(size) is int and size >= 0 for size in (*shape, first, last)):
            raise ValueError(f"{key} has no sizes")
        if kind in BITS and 8 * (last - first) != BITS[kind] * math.prod(shape):
            raise ValueError(f"the bytes of {key} do not make its shape")
        entries[key], end = (kind, shape), max(end, last)
    return metadata, entries, end


def _what_it_is_instead(path: Path) -> str:
    """A sentence about a file that should be safetensors and is not."""
    with open(path, "rb") as file:
        start = file.read(64)
    if not start:
        return "the file is empty."
    if start.startswith(b"version https://git-lfs"):
        return "this is only git-lfs' pointer to the file; fetch the file itself with `git lfs pull`."
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "this is a web page and no model; download the file again, logged in if the site asks for it."
    if zipfile.is_zipfile(path):
        return "this is a pickled checkpoint with a wrong name; rename it to .ckpt."
    return "this is no safetensors file, or it is broken. Copy or download it once more."
