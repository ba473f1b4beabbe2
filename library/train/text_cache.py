"""What frozen text encoders make of captions, on disk: named by what it is made from, rebuilt when damaged."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from library.data.entries import entry_path, read_entry, write_entry
from library.device import Compute
from library.errors import InputError
from library.models.family import Condition, Family
from library.settings import Settings
from library.train.data import cache_folder

VERSION = 1  # goes up when captions are encoded differently, so that old entries are not found any more
GIGABYTE = 1e9


class TextCache:
    """Conditions of single captions, float32.

    An entry's name is a hash of the caption as it is shown and of `maker`, which stands for everything else that
    decides on it. So it serves every run that would compute the same, and no other.
    """

    def __init__(self, folder: Path, maker: Sequence[object]) -> None:
        self.folder = Path(folder) / "texts"
        self._maker = (VERSION, *maker)

    def path_of(self, caption: str) -> Path:
        """The file that holds, or would hold, what is made of a caption."""
        return entry_path(self.folder, (*self._maker, caption))

    def get(self, caption: str) -> Condition | None:
        """The condition, (1, tokens, width), on the CPU; None where there is no entry or a damaged one."""
        found = read_entry(self.path_of(caption), ("hidden", "pooled"))
        return Condition(found[0], found[1] if found[1].numel() else None) if found else None

    def put(self, caption: str, condition: Condition) -> None:
        """Writes an entry, whole or not at all; the tensors may be on any device."""
        pooled = torch.empty(0) if condition.pooled is None else condition.pooled
        write_entry(self.path_of(caption), {"hidden": condition.hidden, "pooled": pooled})

    def check_room(self, count: int, example: Condition) -> None:
        """Raises InputError where `count` more entries like `example` would not fit on the disk."""
        size = sum(part.nbytes for part in example if part is not None)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if count * size > free:
            raise InputError(
                f"cache_text_encoder_outputs needs {count * size / GIGABYTE:.1f} GB for {count} different captions, "
                f"and {free / GIGABYTE:.1f} GB are free in {self.folder}. Choose another cache_dir, vary the captions "
                "less, or leave it out."
            )


def open_text_cache(settings: Settings, family: Family, compute: Compute) -> TextCache | None:
    """The cache of a run that asks for one; a dry run writes nothing."""
    if not settings.cache_text_encoder_outputs or settings.dry_run:
        return None
    folder = cache_folder(settings)
    maker = (
        *(family.fingerprint(part, folder) for part in family.text_parts),
        family.fingerprint("tokenizer"),
        settings.clip_skip or 1,
        settings.max_token_length,
        settings.weighted_captions,
        # The number format and the device change the numbers a little, so each has entries of its own.
        compute.dtype,
        compute.device.type,
    )
    return TextCache(folder, maker)
