"""Ways to save time or memory that do not go together."""

from collections.abc import Callable

import pytest

Complaints = Callable[..., tuple[str, ...]]
LORA = "--network_train_unet_only"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--selective_checkpointing --gradient_checkpointing",
            "selective_checkpointing and gradient_checkpointing cannot both be set; the first costs hardly any time",
        ),
        ("--selective_checkpointing --compile full", "selective_checkpointing cannot be set with compile, which"),
        (f"--cuda_graphs {LORA} --gradient_checkpointing", "cuda_graphs cannot be set with gradient_checkpointing, of"),
        (f"--cuda_graphs {LORA} --quantize_base nf4", "cuda_graphs cannot be set with quantize_base, of which no two"),
        (f"--cuda_graphs {LORA} --network_dropout 0.1", "cuda_graphs cannot be set with network_dropout, of"),
        (f"--cuda_graphs {LORA} --network_args rank_dropout=0.1", "cuda_graphs cannot be set with rank_dropout, of"),
        (f"--cuda_graphs {LORA} --network_module dylora", "cuda_graphs cannot be set with network_module = dylora, of"),
        ("--cuda_graphs", "cuda_graphs cannot be set with a text encoder that learns, of which no two"),
    ],
)
def test_what_does_not_go_together(complaints: Complaints, words: str, sentence: str) -> None:
    (told,) = complaints(*words.split())
    assert told.startswith(sentence)


@pytest.mark.parametrize(
    "words",
    ["--selective_checkpointing", f"--cuda_graphs {LORA}", f"--cuda_graphs {LORA} --selective_checkpointing"],
)
def test_what_does(complaints: Complaints, words: str) -> None:
    assert complaints(*words.split(), "--network_args", "rank_dropout=0") == ()
