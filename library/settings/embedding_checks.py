"""What settings must not say together where a new word is learned."""

from collections.abc import Iterator

from library.settings.embedding_fields import EmbeddingFields
from library.settings.fields import DEFAULTS, Settings
from library.settings.whole_checks import EMBEDDING_ENDING

# What a run without a network would read without an effect.
OF_A_NETWORK = (
    "network_weights",
    "dim_from_weights",
    "network_args",
    "network_preset",
    "network_layers",
    "conv_dim",
    "conv_alpha",
    "network_dropout",
    "scale_weight_norms",
    "network_train_unet_only",
    "network_train_text_encoder_only",
    "unet_lr",
    "text_encoder_lr",
    "learning_rate_te1",
    "learning_rate_te2",
)


# Optimizers that step everything by the rate of what comes first, so that parts cannot take turns.
RATE_OF_FIRST = ("DAdaptAdaGrad", "DAdaptAdan", "DAdaptAdanIP")


def embedding_mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for each mistake."""
    if settings.token_string is None:
        for name in EmbeddingFields.__dataclass_fields__:
            if getattr(settings, name) != DEFAULTS[name]:
                yield f"{name} is about a new word; name it with token_string, such as <my-creature>, or leave it out."
        return
    if settings.trains_whole:
        yield "token_string cannot be set where all weights learn; use train_network.py, or set network_module = lora."
    if settings.init_word is None:
        yield "token_string needs init_word, a known word that the new one begins as, such as creature."
    elif settings.token_string.lower() in settings.init_word.lower():
        yield (
            f"init_word '{settings.init_word}' has the new word {settings.token_string} in it, which has no meaning "
            "yet; give a known word, such as creature."
        )
    if settings.embedding_lr == 0:
        yield "embedding_lr is 0, so the new word would not be learned; raise it, or leave token_string out."
    if settings.cache_text_encoder_outputs:
        yield (
            "cache_text_encoder_outputs cannot be set while a new word is learned, because what the text encoder makes "
            "of it changes; leave it out, or leave out token_string."
        )
    if settings.class_prompt and settings.token_string.lower() in settings.class_prompt.lower():
        yield "class_prompt has token_string in it, but names what the base model knows; leave the word out there."
    if settings.output_name.endswith(EMBEDDING_ENDING) and not settings.embedding_only:
        yield (
            f"output_name must not end in {EMBEDDING_ENDING}, as the new word's file beside the network's does; choose "
            "another."
        )
    yield from _phase_mistakes(settings)
    if settings.embedding_only:
        yield from _lonely_mistakes(settings)


def _phase_mistakes(settings: Settings) -> Iterator[str]:
    """The steps in which the word learns alone."""
    steps = settings.ti_steps
    if steps is None:
        return
    if settings.optimizer_type in RATE_OF_FIRST:
        yield (
            f"ti_steps has the word and the network take turns, and {settings.optimizer_type} has one rate for both; "
            "choose another optimizer_type, such as Prodigy."
        )
    if settings.embedding_only:
        yield "ti_steps is about a network that learns after the word, but embedding_only trains none; leave out one."
    elif steps >= 1 and settings.max_train_epochs is None and steps >= settings.max_train_steps:
        yield (
            f"ti_steps must be below max_train_steps = {settings.max_train_steps}, so that the network has steps "
            f"too, but is {steps}; lower it, or set embedding_only."
        )


def _lonely_mistakes(settings: Settings) -> Iterator[str]:
    """A run without a network."""
    for name in OF_A_NETWORK:
        if getattr(settings, name) != DEFAULTS[name]:
            yield f"{name} is about a network, but embedding_only trains none; leave out one of them."
    if settings.save_model_as != DEFAULTS["save_model_as"]:
        yield "save_model_as is about a network's file; a word's are always .safetensors and .pt, so leave it out."
    if settings.prior_preservation in ("self", "distill"):
        yield (
            f"prior_preservation = {settings.prior_preservation} keeps nothing, as embedding_only leaves the model as "
            "it is; leave it out."
        )
