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
    "loha": "library.adapters.loha:LOHA",
    "lokr": "library.adapters.lokr:LOKR",
    "dora": "library.adapters.dora:DORA",
    "ia3": "library.adapters.ia3:IA3",
    "full": "library.adapters.full:FULL",
    "lora_fa": "library.adapters.lora_fa:LORA_FA",
    "dylora": "library.adapters.dylora:DYLORA",
    "pissa": "library.adapters.pissa:PISSA",
    "oft": "library.adapters.oft:OFT",
    "boft": "library.adapters.oft:BOFT",
    "hypernetwork": "library.adapters.hypernetwork_kind:HYPERNETWORK",
}
# The one that changes no weight, but what attention reads; its files are AUTOMATIC1111's own.
HYPERNETWORK = "hypernetwork"
# Those whose files are plain LoRA, and those that have no rank to be scaled by.
PLAIN_LORA = ("lora", "lora_fa", "dylora", "pissa")
# Those that never look at the frozen weight, so that it may be kept in few bits.
BLIND = ("lora", "lora_fa", "dylora", "loha", "lokr")
UNSCALED = ("ia3", "full", "oft", "boft", HYPERNETWORK)
# Which layers learn, as LyCORIS calls the choices: in module paths of the UNet, and of the text encoders, if any.
_TRANSFORMERS, _BLOCKS = r"\.attentions\.\d+\.", r"\.(resnets|downsamplers|upsamplers)\.\d+\."
_ALL_TEXT = r"\.(self_attn|mlp)\."
PRESETS: dict[str, tuple[str, str | None]] = {
    "attn-only": (r"\.attn[12]\.", r"\.self_attn\."),
    "attn-mlp": (_TRANSFORMERS, _ALL_TEXT),
    "full": (f"{_TRANSFORMERS}|{_BLOCKS}", _ALL_TEXT),
    "unet-only": (f"{_TRANSFORMERS}|{_BLOCKS}", None),
    "unet-transformer-only": (_TRANSFORMERS, None),
    "unet-convblock-only": (_BLOCKS, None),
    # All of q, k, v and out in the text encoders: AUTOMATIC1111 leaves OpenCLIP alone where one is missing.
    "ia3": (r"\.attn[12]\.to_[kv]$|\.ff\.net\.2$", r"\.self_attn\.|\.mlp\.fc2$"),
    HYPERNETWORK: (r"\.attn[12]\.to_[kv]$", None),
}
# What one kind alone is told by network_args, each with the type of its value.
ADAPTER_ARGUMENTS: dict[str, dict[str, type]] = {
    "lora": {"use_tucker": bool},
    "loha": {"use_tucker": bool},
    "lokr": {"factor": int, "decompose_both": bool, "full_matrix": bool, "use_tucker": bool},
    "dylora": {"unit": int},
    "oft": {"num_blocks": int, "constraint": float},
    "boft": {"constraint": float},
    HYPERNETWORK: {"layer_structure": tuple, "activation_func": str},
}
# What is between the layers of a hypernetwork, by the names of AUTOMATIC1111 and ComfyUI.
ACTIVATIONS = {
    "linear": "torch.nn:Identity",
    "relu": "torch.nn:ReLU",
    "leakyrelu": "torch.nn:LeakyReLU",
    "elu": "torch.nn:ELU",
    "swish": "torch.nn:Hardswish",
    "tanh": "torch.nn:Tanh",
    "sigmoid": "torch.nn:Sigmoid",
    "softsign": "torch.nn:Softsign",
    "mish": "torch.nn:Mish",
}
NORMS = "library.adapters.full:NORM"  # what learns of norms, beside any of them, with train_norm

# Optimizer classes, imported when named; what each is told unless the user says otherwise is in optim/optimizers.py.
OPTIMIZERS = {
    # Adam with decoupled weight decay, arXiv 1711.05101; its moments in blocks of 8-bit numbers, arXiv 2110.02861; the
    # paged ones put them into the computer's memory where the GPU's is full.
    "AdamW": "torch.optim:AdamW",
    "AdamW8bit": "bitsandbytes.optim:AdamW8bit",
    "PagedAdamW": "bitsandbytes.optim:PagedAdamW",
    "PagedAdamW8bit": "bitsandbytes.optim:PagedAdamW8bit",
    "PagedAdamW32bit": "bitsandbytes.optim:PagedAdamW32bit",
    # The sign of a momentum, arXiv 2302.06675; wants a third to a tenth of AdamW's learning rate.
    "Lion": "lion_pytorch:Lion",
    "Lion8bit": "bitsandbytes.optim:Lion8bit",
    "PagedLion8bit": "bitsandbytes.optim:PagedLion8bit",
    # AdamW's second moment from row and column sums, arXiv 1804.04235, and with a measure of its trust, 2307.02047.
    "Adafactor": "transformers.optimization:Adafactor",
    "CAME": "came_pytorch:CAME",
    # Those that find their own step size, arXiv 2306.06101 and 2301.07733; the learning rate multiplies it, normally 1.
    "Prodigy": "prodigyopt:Prodigy",
    "DAdaptation": "dadaptation.experimental:DAdaptAdamPreprint",
    "DAdaptAdamPreprint": "dadaptation.experimental:DAdaptAdamPreprint",
    "DAdaptAdaGrad": "dadaptation:DAdaptAdaGrad",
    "DAdaptAdam": "dadaptation:DAdaptAdam",
    "DAdaptAdan": "dadaptation:DAdaptAdan",
    "DAdaptAdanIP": "dadaptation.experimental:DAdaptAdanIP",
    "DAdaptLion": "dadaptation:DAdaptLion",
    "DAdaptSGD": "dadaptation:DAdaptSGD",
    # Those that learn at one point and save an average of all, arXiv 2405.15682, so that the rate need not fall.
    "AdamWScheduleFree": "schedulefree:AdamWScheduleFree",
    "RAdamScheduleFree": "schedulefree:RAdamScheduleFree",
    "SGDScheduleFree": "schedulefree:SGDScheduleFree",
    # Plain gradient descent, and with Nesterov's momentum.
    "SGD": "torch.optim:SGD",
    "SGDNesterov": "torch.optim:SGD",
    "SGDNesterov8bit": "bitsandbytes.optim:SGD8bit",
}

LR_SCHEDULES = {
    "constant": "library.optim.schedules:constant",
    "constant_with_warmup": "library.optim.schedules:constant",
    "linear": "library.optim.schedules:linear",
    "cosine": "library.optim.schedules:cosine",
    "cosine_with_restarts": "library.optim.schedules:cosine_with_restarts",
    "cosine_with_min_lr": "library.optim.schedules:cosine_with_min_lr",
    "polynomial": "library.optim.schedules:polynomial",
    "inverse_sqrt": "library.optim.schedules:inverse_sqrt",
    "warmup_stable_decay": "library.optim.schedules:cosine",
    "piecewise_constant": "library.optim.schedules:piecewise_constant",
    "rex": "library.optim.schedules:rex",
}

# The scheduler classes of diffusers, and what they lack, by the names of sd-scripts; more names are in samplers.py.
SAMPLERS = {
    "ddim": "diffusers:DDIMScheduler",
    "ddpm": "diffusers:DDPMScheduler",
    "pndm": "diffusers:PNDMScheduler",
    "lms": "diffusers:LMSDiscreteScheduler",
    "euler": "diffusers:EulerDiscreteScheduler",
    "euler_a": "diffusers:EulerAncestralDiscreteScheduler",
    "heun": "diffusers:HeunDiscreteScheduler",
    "dpm_2": "diffusers:KDPM2DiscreteScheduler",
    "dpm_2_a": "diffusers:KDPM2AncestralDiscreteScheduler",
    "dpmsolver++": "diffusers:DPMSolverMultistepScheduler",
    "dpm++_2m_sde": "diffusers:DPMSolverMultistepScheduler",
    "dpm++_sde": "library.diffusion.solvers:dpmpp_sde",
    "dpm++_2s_a": "library.diffusion.solvers:dpmpp_2s_ancestral",
    "dpm_fast": "library.diffusion.solvers:dpm_fast",
    "dpm_adaptive": "library.diffusion.solvers:dpm_adaptive",
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
