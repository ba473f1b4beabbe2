"""What settings must not say together where whole models are trained, and where adapters are."""

import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from library.files import expanded
from library.lookup import HYPERNETWORK
from library.settings.fields import DEFAULTS, Settings
from library.settings.run_fields import NetworkFields

# Optimizers that look at all weights before they move one.
NOT_ONE_BY_ONE_WORDS = """
    Prodigy DAdaptation DAdaptAdamPreprint DAdaptAdaGrad DAdaptAdam DAdaptAdan DAdaptAdanIP DAdaptLion DAdaptSGD
    AdamWScheduleFree RAdamScheduleFree SGDScheduleFree
"""
NOT_ONE_BY_ONE = tuple(NOT_ONE_BY_ONE_WORDS.split())
EMBEDDING_ENDING = "-embedding"  # of a new word's file beside a network's
TO_THE_END = (None, -1)  # values of stop_text_encoder_training that name no step
MOMENT = re.compile(r"(-\d{6,}|-step\d{8,})(-ema)?")  # how the name of a file written on the way ends


def text_learns(settings: Settings) -> bool:
    """Whether anything of the text encoders learns, if its rate is above 0."""
    if settings.stop_text_encoder_training == -1 or settings.embedding_only:
        return False
    return settings.train_text_encoder if settings.trains_whole else not settings.network_train_unet_only


def text_rates(settings: Settings) -> tuple[float, float]:
    """The learning rates of the first and the second text encoder, or of what learns on them."""
    both = settings.learning_rate_te if settings.trains_whole else settings.text_encoder_lr
    both = settings.learning_rate if both is None else both
    first, second = settings.learning_rate_te1, settings.learning_rate_te2
    return both if first is None else first, both if second is None else second


def unet_learns(settings: Settings) -> bool:
    """Whether the UNet learns, or something on it."""
    rate = settings.learning_rate if settings.unet_lr is None else settings.unet_lr
    return rate > 0 and not (settings.network_train_text_encoder_only or settings.embedding_only)


def whole_mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for each mistake."""
    if settings.trains_whole:
        yield from _strangers(settings, [field.name for field in fields(NetworkFields)], "an adapter")
        if settings.text_encoder_lr is not None:
            yield "text_encoder_lr is the rate of an adapter; for the text encoders' own weights set learning_rate_te."
        yield from _place_mistakes(settings)
        yield from _memory_mistakes(settings)
    else:
        yield from _strangers(settings, ["train_text_encoder", "learning_rate_te"], "all weights")
        if settings.save_model_as == "both":
            yield "save_model_as = both is for whole models; an adapter is saved as safetensors or as diffusers."
    yield from _text_mistakes(settings)
    for name in ("ema_decay", "ema_device"):
        if getattr(settings, name) != DEFAULTS[name] and not settings.ema:
            yield f"{name} is set, but no average is made; set ema = true, or leave it out."


def _text_mistakes(settings: Settings) -> Iterator[str]:
    """The text encoders' part in the run."""
    stops, reads = settings.stop_text_encoder_training not in TO_THE_END, text_learns(settings)
    remedy = "set train_text_encoder = true" if settings.trains_whole else "train it"
    for name in ("learning_rate_te", "learning_rate_te1", "learning_rate_te2"):
        is_told = name == "learning_rate_te" and not settings.trains_whole or settings.embedding_only
        if getattr(settings, name) and not reads and not is_told:
            yield f"{name} is set, but no text encoder learns; {remedy}, or leave it out."
    if stops and not (reads and any(text_rates(settings))):
        yield f"stop_text_encoder_training has nothing to stop, as no text encoder learns; {remedy}, or leave it out."
    if stops and not unet_learns(settings):
        yield "stop_text_encoder_training would leave nothing that learns, as the UNet does not; leave it out."
    if settings.train_text_encoder and settings.stop_text_encoder_training == -1:
        yield "stop_text_encoder_training = -1 leaves train_text_encoder without effect; leave out one of them."


def places(settings: Settings, stem: Path) -> list[Path]:
    """Where a result named `stem` is written: a file; of a whole model as `save_model_as` says a folder, or both; with
    a new word what holds that.
    """
    ending = "pt" if settings.network_module == HYPERNETWORK else "safetensors"
    file = stem.with_name(f"{stem.name}.{ending}")
    if settings.embedding_only:
        return [file, stem.with_name(f"{stem.name}.pt")]
    if settings.token_string:
        return [file, stem.with_name(f"{stem.name}{EMBEDDING_ENDING}.safetensors")]
    if not settings.trains_whole:
        return [file]
    return {"safetensors": [file], "diffusers": [stem], "both": [file, stem]}[settings.save_model_as]


def _strangers(settings: Settings, names: list[str], whose: str) -> Iterator[str]:
    """Settings that would be read without an effect."""
    adapters, whole = "name a network_module, such as lora", "use train_dreambooth.py without network_module"
    remedy = adapters if settings.trains_whole else whole
    for name in names:
        if name != "network_module" and getattr(settings, name) != DEFAULTS[name]:
            yield f"{name} belongs to the training of {whose}; leave it out, or {remedy}."


def _place_mistakes(settings: Settings) -> Iterator[str]:
    """The base model is read until the end, and a folder of something else is not to be filled with a model."""
    base = expanded(settings.pretrained_model_name_or_path)
    real = os.path.realpath(base)
    names = [settings.output_name, *([f"{settings.output_name}-ema"] if settings.ema else [])]
    before = base.name.removesuffix(".safetensors")
    if MOMENT.fullmatch(before.removeprefix(settings.output_name)):
        names.append(before)  # of an earlier run with this name, which wrote it at a moment that comes again
    for path in (path for name in names for path in places(settings, settings.output_dir / name)):
        if settings.pretrained_model_name_or_path and os.path.exists(base) and os.path.realpath(path) == real:
            yield f"output_name: the result, {path}, would replace the base model; choose another name or output_dir."
        elif os.path.isdir(path) and any(path.iterdir()) and not (path / "model_index.json").is_file():
            yield f"output_name: {path}, where the model goes, is a folder of something else; choose another name."


def _memory_mistakes(settings: Settings) -> Iterator[str]:
    """Weights that are moved one by one."""
    if settings.full_bf16 and settings.mixed_precision != "bf16":
        yield f"full_bf16 needs mixed_precision = bf16, not {settings.mixed_precision}."
    for name in ("full_bf16", "fused_backward_pass"):
        unfit = settings.optimizer_type in NOT_ONE_BY_ONE or "." in settings.optimizer_type
        if getattr(settings, name) and unfit:
            yield (
                f"{name} moves the weights one by one, and {settings.optimizer_type} may look at all of them; "
                "choose another optimizer_type, such as AdamW8bit or Adafactor."
            )
    if not settings.fused_backward_pass:
        return
    if settings.gradient_accumulation_steps > 1:
        yield (
            "fused_backward_pass keeps no gradients that batches could be added up in; set "
            f"gradient_accumulation_steps = 1, not {settings.gradient_accumulation_steps}, or leave it out."
        )
    if settings.prior_preservation == "self":
        yield (
            "fused_backward_pass moves the weights twice in a step where prior_preservation = self adds a loss of its "
            "own; leave it out, or keep the class by pictures of it."
        )
    if settings.max_grad_norm > 0:
        yield (
            "fused_backward_pass moves weights before the length of the whole gradient is known, so it cannot be "
            f"shortened; set max_grad_norm = 0, not {settings.max_grad_norm}, or leave it out."
        )
    if settings.skip_nonfinite_steps:
        yield "fused_backward_pass moves weights before a step can be left out; leave out skip_nonfinite_steps, or it."
    if settings.mixed_precision == "fp16":
        yield "fused_backward_pass cannot undo the scaling of fp16's loss; set mixed_precision to bf16 or no."
