"""Captions to hidden states with a CLIP text model, longer ones than its 77 tokens too."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention

from library.errors import InputError
from library.models.emphasis import emphasise, parse_weights
from library.models.layout import build

WINDOW = 77  # tokens that the model reads at once, the first and the last of them markers
CHUNK = WINDOW - 2
MAX_TOKEN_LENGTHS = (75, 150, 225)


def load_text_encoder(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, what: str
) -> nn.Module:
    """A frozen CLIP text model. `tensors` are named without `text_model.`.

    transformers dropped that name from its modules in 5.6; files keep it, and here both kinds are served.
    """

    def create() -> nn.Module:
        return CLIPTextModel(CLIPTextConfig.from_dict(dict(config)))

    with torch.device("meta"):
        prefix = "text_model." if hasattr(create(), "text_model") else ""
    return build(create, {prefix + key: tensor for key, tensor in tensors.items()}, dtype, what)


class Tokenizer:
    """CLIP's tokenizer, cutting captions into chunks of 75 tokens, each between the two markers."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = CLIPTokenizer.from_pretrained(folder)
        self._start, self._end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        self._counts: dict[str, int] = {}

    def count(self, caption: str, weighted: bool = False) -> int:
        """How many tokens a caption has, markers not counted, nor what `weighted` reads as weights.

        No token spans a blank, so that words are counted one by one and remembered: 100,000 captions take seconds.
        """
        texts = [text for text, _ in parse_weights(caption)] if weighted else [caption]
        return sum(self._count_word(word) for text in texts for word in text.split(" ") if word)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary and its rules, for what is kept of encoded captions."""
        return sha256(self._tokenizer.backend_tokenizer.to_str().encode()).hexdigest()[:32]

    def __call__(self, captions: Sequence[str], max_token_length: int) -> Tensor:
        """Token ids (batch, chunks, 77); those beyond `max_token_length` are cut, short ones filled up."""
        return _windows([self._ids(caption) for caption in captions], max_token_length, self._start, self._end)

    def weighted(self, captions: Sequence[str], max_token_length: int) -> tuple[Tensor, Tensor]:
        """Token ids of captions with weights in them, and the weight of each token, both (batch, chunks, 77)."""
        ids: list[list[int]] = []
        weights: list[list[float]] = []
        for caption in captions:
            pieces = [(self._ids(text), weight) for text, weight in parse_weights(caption)]
            ids.append([token for tokens, _ in pieces for token in tokens])
            weights.append([weight for tokens, weight in pieces for _ in tokens])
        windows = _windows(ids, max_token_length, self._start, self._end)
        return windows, _windows(weights, max_token_length, 1.0, 1.0)

    def _count_word(self, word: str) -> int:
        count = self._counts.get(word)
        if count is None:
            count = self._counts[word] = len(self._ids(word))
        return count

    def _ids(self, caption: str) -> list[int]:
        """A caption's token ids without markers."""
        # verbose=False: the warning about long captions is ours to give, once and in words.
        ids: list[int] = self._tokenizer(caption, add_special_tokens=False, verbose=False)["input_ids"]
        return ids


def _windows(rows: Sequence[Sequence[float]], max_token_length: int, first: float, last: float) -> Tensor:
    """Rows of numbers as (batch, chunks, 77): cut or filled up with `last`, each chunk between `first` and `last`."""
    if max_token_length not in MAX_TOKEN_LENGTHS:
        raise InputError(f"max_token_length {max_token_length} is not one of 75, 150 and 225.")
    windows = []
    for row in rows:
        numbers = [*row[:max_token_length], *[last] * (max_token_length - len(row))]
        chunks = [numbers[start : start + CHUNK] for start in range(0, max_token_length, CHUNK)]
        windows.append([[first, *chunk, last] for chunk in chunks])
    return torch.tensor(windows)


def encode(
    encoder: nn.Module, tokens: Tensor, clip_skip: int | None, weights: Tensor | None = None
) -> Tensor:
    """Hidden states (batch, 75 * chunks + 2, width) of token ids (batch, chunks, 77), times their `weights`.

    Each chunk is read by itself; of the markers only the first and last of all are kept, as in sd-scripts.
    With `clip_skip` N, the N-th last layer's states go through the final norm.
    """
    batch, chunks, _ = tokens.shape
    ids = tokens.flatten(0, 1)
    layers = encoder.config.num_hidden_layers
    skip = clip_skip or 1
    if not 1 <= skip <= layers:
        raise InputError(f"clip_skip {clip_skip} is not between 1 and {layers}, the text encoder's layers.")
    if skip == 1:
        states = encoder(input_ids=ids).last_hidden_state
    else:
        states = encoder(input_ids=ids, output_hidden_states=True).hidden_states[-skip]
        states = getattr(encoder, "text_model", encoder).final_layer_norm(states)
    if weights is not None:
        states = emphasise(states, weights.flatten(0, 1))
    if chunks == 1:
        return states
    states = states.unflatten(0, (batch, chunks))
    middle = states[:, :, 1:-1].flatten(1, 2)
    return torch.cat([states[:, 0, :1], middle, states[:, -1, -1:]], dim=1)


def adapter_layers(encoder: nn.Module, prefix: str) -> dict[str, str]:
    """The linear layers of attention and MLP, by module path, with their names in kohya's files."""
    layers = {}
    for path, module in encoder.named_modules():
        if isinstance(module, CLIPAttention | CLIPMLP):
            for name, layer in module.named_modules():
                if isinstance(layer, nn.Linear):
                    full = f"{path}.{name}"
                    layers[full] = f"{prefix}_{file_path(full)}".replace(".", "_")
    return layers


def file_path(path: str) -> str:
    """A module path as files have it, with `text_model.` whether the installed transformers has it or not."""
    return path if path.startswith("text_model.") else f"text_model.{path}"
