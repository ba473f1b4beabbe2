"""A model written anew, with or without adapters in its weights; tensor by tensor, as large models want it."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from library.adapters.changes import Change
from library.adapters.combining import Share
from library.adapters.made import made_metadata
from library.adapters.metadata import TrainingFacts
from library.errors import InputError
from library.models.checkpoints import Parts, structure_metadata, write_file, write_folder
from library.models.family import Family, open_family
from library.models.saving import FILE_ENDING
from library.models.stems import bias_of, changeable, parts_of
from library.weights import Later, written_format

Changes = list[tuple[float, Change]]


def merge_into(
    family: Family, shares: Sequence[Share], path: Path, dtype: torch.dtype | None, metadata: Mapping[str, str]
) -> int:
    """Writes the model with the LoRAs in its weights, and opens it again; returns how many weights were changed.

    Each weight becomes W + the sum of weight * change, formed in float32 and rounded once.

    Args:
        shares: files of any kind of adapter, plain LoRA in any layout; without any the model is only converted
        path: a name that ends in .safetensors becomes one file in the original layout, any other a folder
        dtype: of all tensors in the files; None leaves each tensor its own
        metadata: for the file; folders have no place for it

    Raises InputError, with nothing written, where a LoRA has a layer that the model has not.
    """
    parts, count = merged_parts(family, shares, dtype)
    configs = family.configs()
    if path.suffix.lower() == FILE_ENDING:
        predicts = {"v_prediction": "v"}.get(family.prediction_type, family.prediction_type)
        told = {"modelspec.prediction_type": predicts, "ss_zero_terminal_snr": str(family.zero_terminal_snr)}
        write_file(path, family.name, parts, dtype, {**metadata, **told, **structure_metadata(configs, family.name)})
    else:
        write_folder(path, family.name, parts, configs, dtype)
    written = open_family(str(path))
    if (written.name, written.prediction_type) != (family.name, family.prediction_type):
        raise RuntimeError(f"{path} was not written rightly: it opens as {written.name}, {written.prediction_type}.")
    return count


def merged_parts(family: Family, shares: Sequence[Share], dtype: torch.dtype | None) -> tuple[Parts, int]:
    """The tensors of all parts with the adapters in them, and how many have changed; see `merge_into`.

    Those of the UNet that change are `Later` ones.
    """
    tensors = {part: family.part_tensors(part) for part in ("vae", *parts_of(family))}
    changes = _changes(family, tensors, shares)
    parts = {part: _changed(found, changes.get(part, {}), part == "unet", dtype) for part, found in tensors.items()}
    return parts, sum(len(each) for each in changes.values())


def merged_unet(family: Family, shares: Sequence[Share], dtype: torch.dtype) -> tuple[nn.Module, int]:
    """The UNet with the adapters in its weights, and how many of those have changed; see `merge_into`."""
    unet = family.load_unet(dtype)
    tensors = merged_parts(family, shares, dtype)[0]["unet"]
    changed = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Later)}
    for name, tensor in changed.items():
        unet.get_parameter(name).data = tensor.to(dtype)
    return unet, len(changed)


def weights_of(family: Family) -> Callable[[str], Tensor | None]:
    """The weight of each layer that adapters change, by its stem in kohya's files; None for other stems."""
    found: dict[str, Tensor] = {}
    for part in parts_of(family):
        tensors = family.part_tensors(part)
        found |= {stem: tensors[name] for stem, name in changeable(family, part, tensors).items()}
    return found.get


def made_facts(family: Family, title: str, **more: Any) -> TrainingFacts:
    """What a file that no training made says of the model that it is of or for; `more` are further facts."""
    return TrainingFacts(
        title,
        family.base_name,
        base_model_version=family.base_model_version,
        architecture=family.architecture,
        prediction_type=family.prediction_type,
        zero_terminal_snr=family.zero_terminal_snr,
        resolution=(family.default_size, family.default_size),
        finished_at=time.time(),
        **more,
    )


def model_metadata(family: Family, title: str, how: str, merged_from: str | None = None) -> dict[str, str]:
    """What the file of a model says of itself that was made of `family`: in a sentence how, and of what."""
    metadata = made_metadata(made_facts(family, title, network_module=None), how)
    return metadata | ({"modelspec.merged_from": merged_from} if merged_from else {})


def _changes(
    family: Family, tensors: Mapping[str, Mapping[str, Tensor]], shares: Sequence[Share]
) -> dict[str, dict[str, Changes]]:
    """Part -> tensor name -> what is added to it."""
    places = {
        stem: (part, name)
        for part in parts_of(family)
        for stem, name in changeable(family, part, tensors[part]).items()
    }
    changes: dict[str, dict[str, Changes]] = {}
    for share in shares:
        layers, weight_of = share.changes(), share.weight_of
        unknown = [stem for stem in layers if stem not in places]
        if unknown:
            raise InputError(
                f"{share.path} has {len(unknown)} layers that {family.base_name} has not, such as {unknown[0]}; "
                "it was made for another base model."
            )
        for stem, layer in layers.items():
            part, name = places[stem]
            _check_shape(share.path, stem, layer, tensors[part], name)
            if weight := weight_of(stem):
                own = changes.setdefault(part, {})
                own.setdefault(name, []).append((weight, layer))
                if layer.bias is not None:
                    own.setdefault(bias_of(name), []).append((weight, Change("full", {"diff": layer.bias})))
    return changes


def _check_shape(path: Path, stem: str, change: Change, tensors: Mapping[str, Tensor], name: str) -> None:
    shape = tuple(tensors[name].shape)
    if not change.fits(shape) or change.bias is not None and bias_of(name) not in tensors:
        raise InputError(
            f"{path} does not fit the base model: {stem} is made for a weight of shape {change.shape}, and the model's "
            f"has {shape}."
        )


def _changed(
    tensors: Mapping[str, Tensor], changes: Mapping[str, Changes], later: bool, dtype: torch.dtype | None
) -> Mapping[str, Tensor]:
    """A part with its changes: made one by one when written for the UNet, which is most of a model, else at once."""
    result: dict[str, Tensor | Later] = {}
    for name, tensor in tensors.items():
        kind = written_format(tensor, dtype)
        if name not in changes:
            result[name] = tensor
        elif later:
            result[name] = Later(tensor.shape, partial(_sum, tensor, changes[name]), kind)
        else:
            result[name] = _sum(tensor, changes[name]).to(kind)
    return cast(Mapping[str, Tensor], result)  # checkpoints renames a UNet's tensors, and never looks into them


def _sum(weight: Tensor, changes: Changes) -> Tensor:
    """W + the sum of all changes, float32."""
    total = weight.to(torch.float32, copy=True)
    for factor, layer in changes:
        total += layer.of(weight).mul_(factor)
    return total
