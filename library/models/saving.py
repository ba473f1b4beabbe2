"""A trained model written in either layout, with what was not trained taken from its base, and read back."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from library.models.checkpoints import Parts, structure_metadata, write_file, write_folder
from library.models.family import Family, open_family

FILE_ENDING = ".safetensors"


def save_model(path: Path, family: Family, trained: Parts, dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """Writes a whole model, reads it back through its family and compares it.

    Args:
        path: a name that ends in .safetensors becomes one file in the original layout, any other a folder in diffusers'
        family: the base model
        trained: tensors of the parts that are not the base model's any more, as `checkpoints.part_tensors` gives them
        dtype: of all tensors in the files
        metadata: for the file; folders have no place for it

    Raises RuntimeError if what is in the files is not what is in memory.
    """
    parts: dict[str, Mapping[str, Tensor]] = {}
    for part in ("unet", "vae", *family.text_parts):
        tensors = trained.get(part) or family.part_tensors(part)
        parts[part] = {key: tensor.to("cpu", dtype) for key, tensor in tensors.items()}
    configs = family.configs()
    if path.suffix == FILE_ENDING:
        described = {**metadata, **_words(family), **structure_metadata(configs, family.name)}
        write_file(path, family.name, parts, dtype, described)
    else:
        write_folder(path, family.name, parts, configs, dtype)
    _compare(path, family, parts)


def _words(family: Family) -> dict[str, str]:
    """What tensors do not tell, and a program that opens the file has to know."""
    predicts = {"v_prediction": "v"}.get(family.prediction_type, family.prediction_type)
    return {"modelspec.prediction_type": predicts, "ss_zero_terminal_snr": str(family.zero_terminal_snr)}


def _compare(path: Path, family: Family, parts: Parts) -> None:
    """Opens what was written as any base model is opened."""
    written = open_family(str(path))
    asked, told = ((each.name, each.prediction_type, each.zero_terminal_snr) for each in (family, written))
    wrong = [] if told == asked else [f"its kind, {told},"]
    for part, tensors in parts.items():
        found = written.part_tensors(part)
        pairs = ((key, tensors.get(key), found.get(key)) for key in tensors.keys() | found.keys())
        wrong += [f"{part} {key}" for key, mine, theirs in pairs if not _same(mine, theirs)]
    if wrong:
        raise RuntimeError(f"{path} was not written rightly: {min(wrong)} differs from memory.")


def _same(mine: Tensor | None, theirs: Tensor | None) -> bool:
    """Whether both are there, and equal to the last bit."""
    if mine is None or theirs is None or mine.dtype != theirs.dtype or mine.shape != theirs.shape:
        return False
    # As bytes, in which a number that is none equals itself.
    return torch.equal(mine.contiguous().view(torch.uint8), theirs.contiguous().view(torch.uint8))
