"""Which files a picture was made by: the hashes by which AUTOMATIC1111 knows models, LoRAs and learned words again."""

import hashlib
from pathlib import Path

from library.models.layout import remembered
from library.weights import file_sha256, read_header

SAFETENSORS = ".safetensors"
MODEL_HASH = "sshs_model_hash"


def model_sha256(name_or_path: str, cache_dir: Path | None = None) -> str:
    """SHA-256 of a model in one file, whose first 10 digits are AutoV2; empty for a folder, which has none.

    It is kept in `cache_dir`, as reading gigabytes takes long.
    """
    path = Path(name_or_path).expanduser()
    return remembered("sha256", [path], lambda: file_sha256(path), cache_dir) if path.is_file() else ""


def lora_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """SHA-256 of a LoRA, whose first 12 digits are AutoV3: what its metadata say, or of what follows its header."""
    if path.suffix.lower() != SAFETENSORS:
        return remembered("sha256", [path], lambda: file_sha256(path), cache_dir)
    said = read_header(path)[0].get(MODEL_HASH)
    return said or remembered("sha256 of tensors", [path], lambda: _tensors_sha256(path), cache_dir)


def word_sha256(path: Path, cache_dir: Path | None = None) -> str:
    """SHA-256 of the file of a learned word, of which the first 12 digits are written."""
    return remembered("sha256", [path], lambda: file_sha256(path), cache_dir)


def _tensors_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        return hashlib.file_digest(file, "sha256").hexdigest()
