"""The `network_args` of an adapter: which there are, as what they are read, and the words of LyCORIS among them."""

import ast
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from library.lookup import (
    ACTIVATIONS,
    ADAPTER_ARGUMENTS,
    BLIND,
    HYPERNETWORK,
    PLAIN_LORA,
    PRESETS,
    UNSCALED,
    find_name,
    nearest,
)
from library.settings.compat import is_off
from library.settings.convert import listed
from library.settings.fields import DEFAULTS, Settings
from library.settings.run_fields import LYCORIS, SD_OFT

# What every kind of adapter can be told; the lists have a value for each block, the weights also a course's name.
LISTS = {"block_dims": int, "conv_block_dims": int, "block_alphas": float, "conv_block_alphas": float}
BLOCK_RATES = ("down_lr_weight", "mid_lr_weight", "up_lr_weight")
SHARED: dict[str, type] = {
    "conv_dim": int,
    "conv_alpha": float,
    "rank_dropout": float,
    "module_dropout": float,
    "rs_lora": bool,
    "train_norm": bool,
    "block_lr_zero_threshold": float,
    **dict.fromkeys(LISTS, list),
    **dict.fromkeys(BLOCK_RATES, str),
    **dict.fromkeys(("loraplus_lr_ratio", "loraplus_unet_lr_ratio", "loraplus_text_encoder_lr_ratio"), str),
}
CHANCES = ("rank_dropout", "module_dropout")
FACTOR = "factor"  # of LoKr, where -1 stands for none

ALGORITHMS = {
    "lora": "lora",
    "locon": "lora",
    "loha": "loha",
    "lokr": "lokr",
    "ia3": "ia3",
    "full": "full",
    "dylora": "dylora",
    "diag-oft": "oft",
    "boft": "boft",
}
OFT_CONSTRAINT = 1e-3
OFT_WITH_CONVOLUTIONS = (r"unet.*\.attn[12]\.", r"unet.*\.(resnets|downsamplers|upsamplers)\.")
DIRECTIONS = ("dora_wd", "weight_decompose")
# Of LyCORIS's arguments those whose effect is a way of storing or computing, and those that few kinds have or none.
NEEDLESS = ("disable_conv_cp", "bypass_mode", "unbalanced_factorization", "train_t5xxl")
ABSENT = ("use_tucker", "use_scalar", "rescaled", "constraint", "wd_on_output")
RENAMED = {"block_size": "unit", "use_cp": "use_tucker", "use_conv_cp": "use_tucker"}


def parsed_arguments(settings: Settings) -> dict[str, Any]:
    """`network_args` by name, each as what it means. Raises ValueError with a sentence for one that is wrong."""
    return {name: _value(settings, name, text) for name, text in told_arguments(settings).items()}


def told_arguments(settings: Settings) -> dict[str, str]:
    """`network_args` as names and texts."""
    pairs = (word.partition("=") for word in settings.network_args if "=" in word)
    return {name: text for name, _, text in pairs}


def argument_mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for each argument that is unknown, wrong, or at odds with a setting."""
    if settings.trains_whole or settings.embedding_only:
        return
    for name, text in told_arguments(settings).items():
        try:
            value = _value(settings, name, text)
        except ValueError as error:
            yield str(error)
            continue
        if name in ("conv_dim", "conv_alpha") and getattr(settings, name) not in (None, value):
            yield f"{name} is {getattr(settings, name)} and {value} in network_args; keep one of them."


def network_mistakes(settings: Settings) -> Iterator[str]:
    """What a kind of adapter cannot do."""
    kind = settings.network_module
    if settings.quantize_base != "no":
        yield from _quantised_mistakes(settings)
    if settings.trains_whole:
        return
    if settings.scale_weight_norms and not is_off(told_arguments(settings).get("use_tucker", "")):
        yield "scale_weight_norms is for pairs of matrices, and use_tucker puts a third between them; leave one out."
    if settings.network_preset and settings.network_layers:
        yield "network_preset and network_layers both say which layers learn; keep one of them."
    if settings.save_model_as == "diffusers" and (kind not in PLAIN_LORA or "train_norm" in told_arguments(settings)):
        plain = listed(PLAIN_LORA)
        yield f"save_model_as = diffusers has no place for {kind} or norms; leave it out, or choose {plain}."
    if kind == HYPERNETWORK:
        yield from _hypernetwork_mistakes(settings)
    if settings.dim_from_weights and kind != "lora":
        yield "dim_from_weights is for network_module = lora; set network_dim instead."


def _quantised_mistakes(settings: Settings) -> Iterator[str]:
    asked = f"quantize_base = {settings.quantize_base}"
    if settings.trains_whole:
        yield f"{asked} is for weights that do not learn, and here all do; name a network_module, or leave it out."
    elif settings.network_module not in BLIND:
        needs = f"network_module = {settings.network_module} needs the frozen weights whole"
        yield f"{asked}: {needs}; choose {listed(BLIND)}, or leave quantize_base out."
    if settings.compile != "no":
        yield f"{asked} and compile = {settings.compile} cannot be combined; leave one of them out."


def _hypernetwork_mistakes(settings: Settings) -> Iterator[str]:
    """What goes with layers that learn, and not with what stands before them."""
    if settings.network_layers or settings.network_preset not in (None, HYPERNETWORK):
        yield "a hypernetwork is for all attention of the UNet; leave network_preset and network_layers out."
    if settings.network_train_text_encoder_only:
        yield "a hypernetwork has no part in the text encoder; leave network_train_text_encoder_only out."
    for name in ("conv_dim", "conv_alpha"):
        if getattr(settings, name) is not None:
            yield f"{name} has no meaning for network_module = {HYPERNETWORK}; leave it out."


def idle_network_settings(settings: Settings) -> Iterator[str]:
    """What is read without an effect, each as a sentence."""
    kind = settings.network_module
    if kind in UNSCALED and settings.network_alpha != DEFAULTS["network_alpha"]:
        yield f"network_alpha changes nothing with network_module = {kind}, which is not scaled by it."


def adopt_lycoris(settings: Settings, complaints: list[str]) -> Settings:
    """The settings of a run for `lycoris.kohya`, in our words; what cannot be done is complained of."""
    if settings.network_module != LYCORIS:
        return settings
    told = {RENAMED.get(name, name): text for name, text in told_arguments(settings).items()}
    algorithm = told.pop("algo", "lora").lower()
    kind = ALGORITHMS.get(algorithm)
    if kind is None:
        complaints.append(f"network_args: algo must be {listed(tuple(ALGORITHMS))}, not '{algorithm}'.")
        return replace(settings, network_module="lora", network_args=())
    if any(not is_off(told.pop(name, "")) for name in DIRECTIONS):
        if kind != "lora":
            complaints.append(f"network_args: dora_wd is for algo = lora, not {algorithm}; leave it out.")
        kind = "dora"
    for name in NEEDLESS:
        told.pop(name, None)
    for name in ABSENT:
        if is_off(told.get(name, "")):
            told.pop(name, None)
        elif name not in ADAPTER_ARGUMENTS.get(kind, {}):
            told.pop(name)
            complaints.append(f"network_args: {name} is not supported with {kind}; leave it out.")
    if kind != "dylora":
        told.pop("unit", None)  # LyCORIS's recipes give a block_size to every kind
    preset = told.pop("preset", settings.network_preset or ("ia3" if kind == "ia3" else "full"))
    chosen = find_name(preset, PRESETS)
    if chosen is None and not settings.network_layers:
        complaints.append(f"network_args: preset must be {listed(tuple(PRESETS))}, not '{preset}'.")
    dropout = told.pop("dropout", "")
    changes: dict[str, Any] = {
        "network_module": kind,
        "network_args": tuple(f"{name}={text}" for name, text in told.items()),
        "network_preset": None if settings.network_layers else chosen,
        "network_train_unet_only": settings.network_train_unet_only or chosen in _without_text(),
    }
    if settings.network_dropout is None and _is_number(dropout) and float(dropout):
        changes["network_dropout"] = float(dropout)
    return replace(settings, **changes)


def adopt_networks(settings: Settings) -> Settings:
    """The settings of a run for sd-scripts' `networks.oft`, in our words.

    There network_dim is the number of blocks, network_alpha the constraint, 0.001 where it is not set, and the UNet's
    attention alone is turned, unless network_args ask for more.
    """
    if settings.network_module != SD_OFT:
        return settings
    told = told_arguments(settings)
    linear, convolutions = (not is_off(told.pop(name, "")) for name in ("enable_all_linear", "enable_conv"))
    given, usual = settings.network_alpha, DEFAULTS["network_alpha"]
    told |= {"num_blocks": str(settings.network_dim), "constraint": str(OFT_CONSTRAINT if given == usual else given)}
    changes: dict[str, Any] = {
        "network_module": "oft",
        "network_alpha": usual,
        "network_args": tuple(f"{name}={text}" for name, text in told.items()),
        "network_train_unet_only": True,
    }
    if not (settings.network_layers or settings.network_preset):
        presets = {(True, True): "unet-only", (True, False): "unet-transformer-only", (False, False): "attn-only"}
        changes["network_preset"] = presets.get((linear, convolutions))
        if changes["network_preset"] is None:
            changes["network_layers"] = OFT_WITH_CONVOLUTIONS
    return replace(settings, **changes)


def adopt_preset(settings: Settings) -> Settings:
    """A preset without layers in the text encoders trains the UNet alone, and so does a hypernetwork."""
    preset = HYPERNETWORK if settings.network_module == HYPERNETWORK else settings.network_preset
    if preset in _without_text() and not settings.network_train_unet_only:
        return replace(settings, network_train_unet_only=True)
    return settings


def _without_text() -> set[str]:
    return {name for name, (_, text) in PRESETS.items() if text is None}


def _value(settings: Settings, name: str, text: str) -> Any:
    own: dict[str, type] = ADAPTER_ARGUMENTS.get(settings.network_module or "lora", {})
    known = own if settings.network_module == HYPERNETWORK else SHARED | own
    kind = known.get(name)
    if kind is None:
        meant = nearest(name, known)
        hint = f"did you mean '{meant}'?" if meant else f"there are {', '.join(known)}."
        raise ValueError(f"network_args: {settings.network_module} knows no argument {name}; {hint}")
    if name in LISTS:
        return _numbers(name, text, LISTS[name])
    if kind is tuple:
        return _structure(name, text)
    if name == "activation_func" and text not in ACTIVATIONS:
        raise ValueError(f"network_args: {name} must be {listed(tuple(ACTIVATIONS))}, not '{text}'.")
    if kind is str:
        return text
    return _flag(name, text) if kind is bool else _number(name, text, kind)


def _number(name: str, text: str, kind: type) -> int | float:
    if not _is_number(text) or kind is int and not float(text).is_integer():
        raise ValueError(f"network_args: {name} must be a {'whole ' if kind is int else ''}number, not '{text}'.")
    value: int | float = kind(float(text))
    lowest = -1 if name == FACTOR else 0
    if value < lowest or name in CHANCES and value >= 1 or name == "unit" and value < 1:
        limit = "between 0 and 1" if name in CHANCES else f"at least {1 if name == 'unit' else lowest}"
        raise ValueError(f"network_args: {name} must be {limit}, not {text}.")
    return value


def _flag(name: str, text: str) -> bool:
    if is_off(text):
        return False
    if text.strip().lower() not in ("true", "1", "yes", "on"):
        raise ValueError(f"network_args: {name} must be True or False, not '{text}'.")
    return True


def _numbers(name: str, text: str, kind: type) -> tuple[Any, ...]:
    try:
        found = ast.literal_eval(f"[{text.strip().strip('[]')}]")
        if all(isinstance(each, int | float) and each >= 0 for each in found):
            return tuple(kind(each) for each in found)
    except (ValueError, SyntaxError):
        pass
    what = ", one for each block" if name in LISTS else ""
    raise ValueError(f"network_args: {name} must be numbers with commas{what}, not '{text}'.")


def _structure(name: str, text: str) -> tuple[float, ...]:
    """The widths of a hypernetwork's layers, as multiples of the first and the last."""
    factors = _numbers(name, text, float)
    if len(factors) < 2 or factors[0] != 1 or factors[-1] != 1 or min(factors) <= 0:
        raise ValueError(f"network_args: {name} must begin and end with 1, such as 1,2,1, not '{text}'.")
    return factors


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
