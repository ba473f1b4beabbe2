"""Which tensors of a model a LoRA changes, by the names of its layers in files; told from names and shapes alone."""

import re
from collections.abc import Mapping

from torch import Tensor

from library.adapters.keys import stem_of
from library.models.family import Family

WEIGHT = ".weight"
OF_ATTENTION = re.compile(r"\.attentions\.\d+\.")
OF_RESNETS = re.compile(r"\.(resnets|downsamplers|upsamplers)\.\d+\.")
OF_TEXT = re.compile(r"encoder\.layers\.\d+\.(self_attn|mlp)\.")


def parts_of(family: Family) -> tuple[str, ...]:
    """The parts of a model that a LoRA can change."""
    return ("unet", *family.text_parts)


def weight_stems(family: Family, part: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Stem -> tensor name, for every linear layer and convolution of a part (named as `Family.part_tensors`)."""
    is_xl = len(family.text_parts) > 1
    names = [name for name, tensor in tensors.items() if name.endswith(WEIGHT) and tensor.ndim in (2, 4)]
    kept = [name for name in names if not name.startswith("embeddings.")]
    return {stem_of(f"{part}.{name.removesuffix(WEIGHT)}", is_xl): name for name in kept}


def changeable(family: Family, part: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The same with the norms of the UNet, which some kinds of adapters change as well."""
    found = weight_stems(family, part, tensors)
    if part != "unet":
        return found
    is_xl = len(family.text_parts) > 1
    norms = [name for name, tensor in tensors.items() if name.endswith(WEIGHT) and tensor.ndim == 1]
    return found | {stem_of(f"{part}.{name.removesuffix(WEIGHT)}", is_xl): name for name in norms}


def bias_of(name: str) -> str:
    """The name of the bias beside a weight."""
    return f"{name.removesuffix(WEIGHT)}.bias"


def usual_stems(family: Family, part: str, tensors: Mapping[str, Tensor], convolutions: bool) -> dict[str, str]:
    """The same for the layers that are trained as a rule: those of `Family.adapter_layers`.

    With `convolutions` also all layers of the UNet's residual blocks and of its changes of resolution.
    """

    def is_usual(name: str) -> bool:
        if part != "unet":
            return bool(OF_TEXT.match(name))
        return bool(OF_ATTENTION.search(name)) or convolutions and bool(OF_RESNETS.search(name))

    return {stem: name for stem, name in weight_stems(family, part, tensors).items() if is_usual(name)}
