"""Compiling the model: its blocks one by one or the whole UNet, never at the cost of the run."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from library.log import warn
from library.settings import Settings

# The classes of diffusers and transformers that models are stacked of: compiled once, each serves all its repetitions.
BLOCKS = frozenset({"BasicTransformerBlock", "ResnetBlock2D", "CLIPEncoderLayer"})

# Kinds of blocks times shapes of pictures. Past torch's own limit, 8, it silently goes on without compiling.
SHAPES = 512


def compile_model(settings: Settings, *modules: nn.Module) -> None:
    """Has the parts of `modules` that `settings.compile` asks for compiled when they are first used.

    Names of weights stay what they are. What cannot be compiled computes as before, and one warning says so. Random
    numbers are torch's own, so that dropout is the same with and without.
    """
    if settings.compile == "no":
        return
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.config.suppress_errors = True
    torch._dynamo.config.recompile_limit = SHAPES
    torch._dynamo.config.accumulated_recompile_limit = SHAPES * len(BLOCKS)
    torch._inductor.config.fallback_random = True
    _say_failures_once()
    for module in modules:
        for part in [module] if settings.compile == "full" else _blocks(module):
            part.compile(dynamic=False)


def uncompiled() -> AbstractContextManager[object]:
    """Within it compiled parts compute as before: for what is too rare or too varied to be compiled for."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    return (part for part in module.modules() if type(part).__name__ in BLOCKS)


def _say_failures_once() -> None:
    """Turns torch's pages about what it could not compile into one sentence."""
    logger = logging.getLogger("torch._dynamo.convert_frame")
    if not any(isinstance(each, _OneSentence) for each in logger.filters):
        logger.addFilter(_OneSentence())


class _OneSentence(logging.Filter):
    """Lets no failure through to the log, and warns of the first."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is about something else."""
        if record.levelno < logging.WARNING or not record.exc_info:
            return True
        lines = [line.strip().rstrip(".") for line in str(record.exc_info[1]).splitlines()]
        # The first line may only say whose words follow.
        reason = next((line for line in lines if line and not line.endswith("raised:")), "torch gives no reason")
        warn(f"compile: a part of the model cannot be compiled ({reason}); it is computed as without compile.")
        return False
