"""The model of a run: the base model's parts, what learns of them or on them, and the optimizer."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from library.adapters.network import Network
from library.adapters.norms import limit_norms
from library.adapters.shared import use_shared_products
from library.device import Compute
from library.frozen import use_frozen_layers
from library.models.family import Family
from library.quantised import quantise
from library.recompute import keep_no_cheap_tensors
from library.settings import Settings
from library.train.captions import TextReader
from library.train.compiling import compile_model
from library.train.embedding import PART, NewWord, Pivot, embedding_spans, start_word
from library.train.embedding_result import EmbeddingResult, PivotResult
from library.train.learned import Learned
from library.train.learner import Learner, build_learner
from library.train.model_result import ModelResult
from library.train.networks import build_network
from library.train.prior import SelfPrior, adapter_prior, whole_prior
from library.train.rates import part_rates
from library.train.results import Result, result_of
from library.train.sharding import shard
from library.train.teacher import Teacher, adapter_teacher, whole_teacher
from library.train.text_cache import open_text_cache
from library.train.whole import WholeModel


@dataclass(frozen=True)
class Model:
    """What predicts and what learns, on the run's device, and what the run makes of it."""

    family: Family
    unet: nn.Module
    reader: TextReader
    learner: Learner
    result: Result
    prior: SelfPrior | None = None
    mixed: bool = True
    teacher: Teacher | None = None

    def number_format(self, compute: Compute) -> AbstractContextManager[object]:
        """Autocast where the model is `mixed`, that is where weights of float32 are computed with in half precision.

        Adapters round their own matrices, so that a model with nothing else needs none.
        """
        return compute.autocast() if self.mixed else nullcontext()

    @property
    def channels(self) -> int:
        """Of the latents that the UNet is given."""
        return int(self.unet.config["in_channels"])  # type: ignore[index]

    def learning(self) -> list[nn.Module]:
        """The modules that gradients go through: the UNet, and text encoders where they or something on them learns."""
        return [self.unet, *(self.reader.encoders if self.reader.trained else [])]


def build_model(settings: Settings, family: Family, compute: Compute, steps: int, captions: Iterable[str]) -> Model:
    """Loads the text encoders, lets them read `captions` if they are frozen, then loads the UNet.

    In this order the frozen text encoders have left the device before the UNet comes. They are not loaded at all
    where the cache knows every caption.
    """
    rates = part_rates(settings, family.text_parts)
    trained, dtype = any(part in rates for part in (*family.text_parts, PART)), learning_dtype(settings, compute)
    cache = open_text_cache(settings, family, compute)
    reader = TextReader(family, settings, compute, trained, cache, dtype if trained else None)
    reader.learn_by_heart(captions)
    unet = family.load_unet(dtype if "unet" in rates else compute.dtype)
    if settings.quantize_base != "no":
        quantise(unet, settings.quantize_base, compute.device)
    unet.to(compute.device, memory_format=torch.channels_last if settings.channels_last else torch.preserve_format)
    modules = {"unet": unet, **(dict(zip(family.text_parts, reader.load(), strict=True)) if trained else {})}
    learning = {part: module for part, module in modules.items() if part in rates}
    if compute.shards and "unet" in learning:
        shard(unet, compute)
    if settings.trains_whole:
        whole = WholeModel(learning)
        result: Result = ModelResult(settings, family, whole)
        learner = build_learner(settings, whole, rates, compute, steps)
        prior = whole_prior(settings, compute, reader, unet)
        teacher = whole_teacher(settings, compute, reader, unet, captions)
    else:
        network = build_network(settings, family, learning) if learning else None
        encoders = {part: modules[part] for part in family.text_parts if part in modules}
        word = start_word(settings, family, encoders) if settings.token_string else None
        learned, result = _combined(settings, network, word)
        spans = embedding_spans(settings, list(rates), steps)
        learner = build_learner(settings, learned, rates, compute, steps, spans)
        if word:
            learner.optimizer.register_step_post_hook(lambda *_: word.keep_usual())
        if network and settings.scale_weight_norms:
            _limit(learner, network, settings.scale_weight_norms)
        prior = adapter_prior(settings, compute, reader, unet, network) if network else None
        teacher = adapter_teacher(settings, reader, unet, network) if network else None
    make_ready(settings, compute, unet, *(module for part, module in learning.items() if part != "unet"))
    if settings.fast_layers:
        held = [each for keeper in (prior, teacher) if keeper for each in keeper.held]
        use_frozen_layers(held, ["ahead"], compute.world_size)
    mixed = settings.trains_whole or bool(settings.token_string) or not settings.fast_layers
    return Model(family, unet, reader, learner, result, prior, mixed, teacher)


def _combined(settings: Settings, network: Network | None, word: NewWord | None) -> tuple[Learned, Result]:
    """What learns, a network or a new word or both, and the files that it becomes."""
    if network is None:
        assert word is not None  # settings with which nothing learns are refused
        return word, EmbeddingResult(settings, word)
    if word is None:
        return network, result_of(settings, network)
    return Pivot(network, word), PivotResult(result_of(settings, network), EmbeddingResult(settings, word))


def _limit(learner: Learner, network: Network, longest: float) -> None:
    """Keeps the network's changes of weights from growing longer than that, after every step."""
    layers = list(network.weights().values())
    learner.optimizer.register_step_post_hook(lambda *_: limit_norms(layers, longest))


def learning_dtype(settings: Settings, compute: Compute) -> torch.dtype:
    """The number format of the parts that learn, or that adapters learn on; adapters themselves are in float32."""
    if settings.trains_whole:
        return torch.bfloat16 if settings.full_bf16 else torch.float32
    return compute.dtype


def make_ready(settings: Settings, compute: Compute, unet: nn.Module, *encoders: nn.Module) -> None:
    """Lets parts that gradients go through keep as much for them as the settings say, and has them compiled.

    What is not compiled and does not learn computes by `library.frozen`, and a UNet's layers with the same input as
    one.
    """
    modules = (unet, *encoders)
    for module in modules:
        module.train()
    if settings.gradient_checkpointing:
        keep_less(*modules)
    if settings.selective_checkpointing:
        keep_no_cheap_tensors(unet)
    if settings.fast_layers and settings.compile == "no":
        shared = [whole for module in modules for whole in use_shared_products(module)]
        use_frozen_layers([*modules, *shared], processes=compute.world_size)
    compile_model(settings, *modules)


def keep_less(*modules: nn.Module) -> None:
    """From now on parts compute activations again in the backward pass instead of keeping them."""
    for module in modules:
        if hasattr(module, "enable_gradient_checkpointing"):
            module.enable_gradient_checkpointing()
        else:
            # transformers gave it another name in 5.23.
            old = getattr(module, "gradient_checkpointing_enable", None)
            getattr(module, "activation_checkpointing_enable", old)({"use_reentrant": False})
