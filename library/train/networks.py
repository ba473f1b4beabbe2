"""The adapters that a run's settings ask for."""

from collections.abc import Callable, Mapping

from torch import nn

from library.adapters.keys import dims_of
from library.adapters.kinds import Options, Size
from library.adapters.network import Network, attach
from library.adapters.targets import BlockRates, Sizes, choose_layers, is_xl, layer_sizes
from library.errors import InputError
from library.lookup import ADAPTER_ARGUMENTS, HYPERNETWORK
from library.models.family import Family
from library.settings import Settings
from library.settings.network_args import BLOCK_RATES, LISTS, parsed_arguments

Layers = dict[str, dict[str, str]]


def build_network(settings: Settings, family: Family, modules: Mapping[str, nn.Module]) -> Network:
    """The adapters, with their start values."""
    layers = network_layers(settings, family, modules)
    sizes = network_sizes(settings, modules, layers)
    kind = settings.network_module or "lora"
    network = attach(
        kind,
        modules,
        layers,
        {stem: size.rank for stem, size in sizes.items()},
        {stem: size.alpha for stem, size in sizes.items()},
        settings.seed,
        network_options(settings),
    )
    if settings.network_weights:
        network.start_from(settings.network_weights)
    return network


def network_layers(settings: Settings, family: Family, modules: Mapping[str, nn.Module]) -> Layers:
    """Part -> module path -> stem, for the layers that learn.

    Raises InputError where a part that is to learn has none.
    """
    told = parsed_arguments(settings)
    conv_dim = told.get("conv_dim", settings.conv_dim)
    own_presets = ("ia3", HYPERNETWORK)
    usual = "full" if conv_dim else "attn-mlp"
    usual = settings.network_module if settings.network_module in own_presets else usual
    preset, norms = settings.network_preset or usual, bool(told.get("train_norm", False))
    factors = block_factors(settings)
    found: Layers = {}
    for part, module in modules.items():
        every = family.every_layer(module, part)
        dotted = {path: family.diffusers_name(part, path) for path in every}
        chosen = choose_layers(module, every, dotted, part, preset, settings.network_layers, norms)
        found[part] = {path: stem for path, stem in chosen.items() if factors is None or factors(stem) > 0}
        if not found[part]:
            which = "network_layers" if settings.network_layers else "network_preset"
            only = "network_train_text_encoder_only" if part == "unet" else "network_train_unet_only"
            raise InputError(f"{which} chooses no layer of the {part}; choose some, or set {only}.")
    return found


def network_sizes(settings: Settings, modules: Mapping[str, nn.Module], layers: Layers) -> dict[str, Size]:
    """Rank and alpha of each layer: the settings', or with `dim_from_weights` those of the file."""
    told = parsed_arguments(settings)
    if settings.dim_from_weights:
        if not settings.network_weights:
            raise InputError("dim_from_weights needs network_weights, the file to take rank and alpha from.")
        ranks, alpha = dims_of(settings.network_weights)
        return {stem: Size(rank, alpha) for stem, rank in ranks.items()}
    lists = {name: told.get(name, ()) for name in LISTS}
    sizes = Sizes(
        settings.network_dim,
        settings.network_alpha,
        told.get("conv_dim", settings.conv_dim) or None,
        told.get("conv_alpha", settings.conv_alpha),
        rank_stabilised=bool(told.get("rs_lora", False)),
        **lists,
    )
    return layer_sizes(modules, layers, sizes)


def network_options(settings: Settings) -> Options:
    """What all layers are told."""
    told = parsed_arguments(settings)
    own = ADAPTER_ARGUMENTS.get(settings.network_module or "lora", {})
    return Options(
        settings.network_dropout or 0.0,
        told.get("rank_dropout", 0.0),
        told.get("module_dropout", 0.0),
        settings.fast_layers,
        {name: value for name, value in told.items() if name in own},
    )


def block_factors(settings: Settings) -> Callable[[str], float] | None:
    """What a layer's learning rate is multiplied with, by its stem; None where all blocks of the UNet learn alike."""
    told = {} if settings.trains_whole else parsed_arguments(settings)
    texts = [told.get(name, "") for name in BLOCK_RATES]
    if not any(texts):
        return None
    rates = BlockRates(*texts, threshold=told.get("block_lr_zero_threshold", 0.0))
    return lambda stem: rates.of(stem, is_xl(stem))
