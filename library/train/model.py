"""The model of a run: the base model's frozen parts, the adapters on them, and the optimizer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import nn

from library.adapters.keys import dims_of
from library.adapters.network import Network, attach
from library.device import Compute
from library.errors import InputError
from library.models.family import Family
from library.settings import Settings
from library.train.captions import TextReader
from library.train.learner import Learner, build_learner, part_rates
from library.train.results import AdapterResult, Result, network_arguments
from library.train.text_cache import open_text_cache


@dataclass(frozen=True)
class Model:
    """What predicts and what learns, on the run's device, and what the run makes of it."""

    family: Family
    unet: nn.Module
    reader: TextReader
    learner: Learner
    result: Result


def build_model(settings: Settings, family: Family, compute: Compute, steps: int, captions: Iterable[str]) -> Model:
    """Loads the text encoders, lets them read `captions` if they are frozen, then loads the UNet.

    In this order the frozen text encoders have left the device before the UNet comes. They are not loaded at all
    where the cache knows every caption.
    """
    rates = part_rates(settings, family.text_parts)
    trained = any(part in rates for part in family.text_parts)
    reader = TextReader(family, settings, compute, trained, open_text_cache(settings, family, compute))
    reader.learn_by_heart(captions)
    unet = family.load_unet(compute.dtype).to(compute.device)
    modules = {"unet": unet, **(dict(zip(family.text_parts, reader.load(), strict=True)) if trained else {})}
    network = build_network(settings, family, {part: modules[part] for part in rates})
    unet.train()
    if settings.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    if trained:
        for encoder in reader.load():
            encoder.train()
            if settings.gradient_checkpointing:
                # transformers gave it another name in 5.23.
                old = getattr(encoder, "gradient_checkpointing_enable", None)
                getattr(encoder, "activation_checkpointing_enable", old)({"use_reentrant": False})
    learner = build_learner(settings, network, rates, compute, steps)
    return Model(family, unet, reader, learner, AdapterResult(settings, network))


def build_network(settings: Settings, family: Family, modules: Mapping[str, nn.Module]) -> Network:
    """The adapters that the settings ask for, with their start values."""
    dim, alpha = network_size(settings)
    network = attach(
        settings.network_module or "lora",
        modules,
        {part: family.adapter_layers(module, part) for part, module in modules.items()},
        dim,
        alpha,
        settings.seed,
        dropout=settings.network_dropout or 0.0,
        arguments=network_arguments(settings),
    )
    if settings.network_weights:
        network.start_from(settings.network_weights)
    return network


def network_size(settings: Settings) -> tuple[int | Mapping[str, int], float]:
    """Rank and alpha: the settings', or with `dim_from_weights` those of the file."""
    if not settings.dim_from_weights:
        return settings.network_dim, settings.network_alpha or float(settings.network_dim)
    if not settings.network_weights:
        raise InputError("dim_from_weights needs network_weights, the file to take rank and alpha from.")
    ranks, alpha = dims_of(settings.network_weights)
    return ranks, alpha
