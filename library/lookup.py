"""The tables of the house: names that people write in settings, and the code behind them. Imports nothing heavy."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

FAMILIES = {
    "sd1": "library.models.sd1:SD1",
    "sd2": "library.models.sd2:SD2",
    "sdxl": "library.models.sdxl:SDXL",
}

ADAPTERS = {
    "lora": "library.adapters.lora:LORA",
}

OPTIMIZERS = {
    "AdamW": "library.optim.optimizers:adamw",
    "AdamW8bit": "library.optim.optimizers:adamw_8bit",
    "Lion": "library.optim.optimizers:lion",
    "Lion8bit": "library.optim.optimizers:lion_8bit",
    "Adafactor": "library.optim.optimizers:adafactor",
    "Prodigy": "library.optim.optimizers:prodigy",
    "SGDNesterov": "library.optim.optimizers:sgd_nesterov",
}

LR_SCHEDULES = {
    "constant": "library.optim.schedules:constant",
    "constant_with_warmup": "library.optim.schedules:constant",
    "linear": "library.optim.schedules:linear",
    "cosine": "library.optim.schedules:cosine",
    "cosine_with_restarts": "library.optim.schedules:cosine_with_restarts",
    "polynomial": "library.optim.schedules:polynomial",
}

# The scheduler classes of diffusers, by the names that users of sd-scripts and the web UIs know.
SAMPLERS = {
    "ddim": "diffusers:DDIMScheduler",
    "pndm": "diffusers:PNDMScheduler",
    "lms": "diffusers:LMSDiscreteScheduler",
    "euler": "diffusers:EulerDiscreteScheduler",
    "euler_a": "diffusers:EulerAncestralDiscreteScheduler",
    "heun": "diffusers:HeunDiscreteScheduler",
    "dpm_2": "diffusers:KDPM2DiscreteScheduler",
    "dpm_2_a": "diffusers:KDPM2AncestralDiscreteScheduler",
    "dpmsolver++": "diffusers:DPMSolverMultistepScheduler",
    "unipc": "diffusers:UniPCMultistepScheduler",
}


def resolve(target: str) -> Any:
    """The object behind "module:attribute"; the module is imported here and not before."""
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)


def find_name(name: str, allowed: Iterable[str]) -> str | None:
    """The table's own spelling of `name`, whatever its upper and lower case; None if it is not there."""
    return {word.lower(): word for word in allowed}.get(name.lower())


def nearest(word: str, allowed: Iterable[str]) -> str | None:
    """The name that `word` was probably meant to be, or None."""
    spellings = {name.lower(): name for name in allowed}
    matches = get_close_matches(word.lower(), spellings, n=1, cutoff=0.6)
    return spellings[matches[0]] if matches else None
