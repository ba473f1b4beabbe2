"""Which files a picture was made by: their tags, and the hashes by which AUTOMATIC1111 knows them again."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from library.adapters.hypernetwork_files import read_hypernetwork
from library.models.grammar import read_tags
from library.models.layout import remembered
from library.models.prompts import Prompt
from library.weights import file_sha256, read_header

SAFETENSORS = ".safetensors"
MODEL_HASH = "sshs_model_hash"


def with_tags(prompt: Prompt, loras: Iterable[tuple[Path, float]]) -> Prompt:
    """The prompt with a tag for each file that it does not name itself, as the web UI wants them."""
    own, tags = {tag.name for tag in read_tags(prompt.text)[1]}, ""
    for path, strength in loras:
        if path.stem not in own:
            kind = "hypernet" if read_hypernetwork(path) else "lora"
            tags += f" <{kind}:{path.stem}:{strength:g}>"
    return replace(prompt, text=prompt.text + tags)


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
