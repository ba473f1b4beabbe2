"""Ways to save time or memory that do not go together, or not with what is trained."""

from collections.abc import Iterator

from library.settings.fields import Settings
from library.settings.network_args import CHANCES, told_arguments
from library.settings.whole_checks import text_learns, text_rates


def speed_mistakes(settings: Settings) -> Iterator[str]:
    """A sentence for each mistake."""
    if settings.selective_checkpointing and settings.gradient_checkpointing:
        yield (
            "selective_checkpointing and gradient_checkpointing cannot both be set; the first costs hardly any time, "
            "the second keeps least: choose one."
        )
    if settings.selective_checkpointing and settings.compile != "no":
        yield (
            "selective_checkpointing cannot be set with compile, which chooses by itself what is computed twice; leave "
            "one of them out."
        )
    if settings.cuda_graphs:
        yield from _graph_mistakes(settings)


def _graph_mistakes(settings: Settings) -> Iterator[str]:
    """What differs from step to step in more than numbers, or asks the GPU something on the way."""
    words = told_arguments(settings)
    reads = text_learns(settings) and any(text_rates(settings))
    obstacles = {
        "gradient_checkpointing": settings.gradient_checkpointing,
        "quantize_base": settings.quantize_base != "no",
        "fused_backward_pass": settings.fused_backward_pass,
        "token_string": settings.token_string is not None,
        "network_dropout": bool(settings.network_dropout),
        **{name: words.get(name, "0") not in ("0", "0.0") for name in CHANCES},
        "network_module = dylora": settings.network_module == "dylora",
        "a text encoder that learns": reads and settings.token_string is None,
    }
    for name, is_there in obstacles.items():
        if is_there:
            yield f"cuda_graphs cannot be set with {name}, of which no two steps can be the same recording; drop one."
