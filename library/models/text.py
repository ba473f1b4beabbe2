"""Captions to hidden states with a CLIP text model, longer ones than its 77 tokens too."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.models.clip.modeling_clip import CLIPMLP, CLIPAttention

from library.errors import InputError
from library.models.emphasis import emphasise, parse_sections, parse_weights
from library.models.layout import build

WINDOW = 77  # tokens that the model reads at once, the first and the last of them markers
CHUNK = WINDOW - 2
MAX_TOKEN_LENGTHS = (75, 150, 225)
# What old configurations call the end marker, and what it is. transformers takes the old number to mean the highest
# token of a caption, which is wrong for tokens that are learned and added behind.
OLD_END, END = 2, 49407
OPEN_CLIP_PADDING = "!"
# What parts captions, marks weights, choices or the files of a prompt in one UI or another.
MARKS = re.compile(r"[\s,:|\\()\[\]{}]")


def load_text_encoder(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, what: str, projects: bool = False
) -> nn.Module:
    """A frozen CLIP text model, with a projection if it `projects`; `tensors` are named without `text_model.`.

    transformers dropped that name from its modules in 5.6; files keep it, and here both kinds are served.
    """
    kind = CLIPTextModelWithProjection if projects else CLIPTextModel
    end = config.get("eos_token_id", OLD_END)

    def create() -> nn.Module:
        return kind(CLIPTextConfig.from_dict({**config, "eos_token_id": END if end == OLD_END else end}))

    with torch.device("meta"):
        prefix = "text_model." if hasattr(create(), "text_model") else ""
    named = {key if key.startswith("text_projection.") else prefix + key: tensor for key, tensor in tensors.items()}
    return build(create, named, dtype, what)


class Tokenizer:
    """CLIP's tokenizer, cutting captions into chunks of 75 tokens, each between the two markers."""

    def __init__(self, folder: Path, padding: int | None = None) -> None:
        """`padding` fills up short captions; None stands for the end marker."""
        tokenizer = CLIPTokenizer.from_pretrained(folder)
        self._rules = _without_padding(tokenizer.backend_tokenizer)
        self._start, self._end = tokenizer.bos_token_id, tokenizer.eos_token_id
        self._padding = self._end if padding is None else padding
        self._counts: dict[str, int] = {}
        self._words: dict[str, list[int]] = {}
        self._pattern: re.Pattern[str] | None = None

    def add_word(self, word: str, count: int, vocabulary: int) -> None:
        """From now on reads `word`, in capitals or not, as `count` tokens behind the `vocabulary` and earlier words.

        Raises InputError for what the vocabulary or an earlier word already is, and for what captions cannot hold.
        """
        key = word.lower()
        if not word or MARKS.search(word):
            raise InputError(f"{word!r} cannot be a new word: leave out blanks and the marks , : | \\ ( ) [ ] {{ }}.")
        if key in self._words:
            raise InputError(f"the new word {word!r} is given twice; give the second another name.")
        if self.count(word) < 2:
            raise InputError(
                f"{word!r} cannot be a new word, because the model's vocabulary has it; choose one of your own, such "
                f"as <{word}>."
            )
        first = vocabulary + sum(map(len, self._words.values()))
        self._words[key] = list(range(first, first + count))
        self._pattern = words_pattern(self._words)
        self._counts.clear()

    def count(self, caption: str, weighted: bool = False) -> int:
        """How many tokens a caption has, markers not counted, nor what `weighted` reads as weights.

        No token spans a blank, so that words are counted one by one and remembered: 100,000 captions take seconds.
        """
        texts = [text for text, _ in parse_weights(caption)] if weighted else [caption]
        return sum(self._count_word(word) for text in texts for word in text.split(" ") if word)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the vocabulary, its rules and the padding, for what is kept of encoded captions; not of words that
        were added, whose rows may change.
        """
        facts = f"{self._padding} {self._rules.to_str()}"
        return sha256(facts.encode()).hexdigest()[:32]

    def __call__(self, captions: Sequence[str], max_token_length: int) -> Tensor:
        """Token ids (batch, chunks, 77); those beyond `max_token_length` are cut, short ones filled up."""
        return self._windows([self._ids(caption) for caption in captions], max_token_length)

    def weighted(self, captions: Sequence[str], max_token_length: int) -> tuple[Tensor, Tensor]:
        """Token ids of captions with weights in them, and the weight of each token, both (batch, chunks, 77)."""
        ids: list[list[int]] = []
        weights: list[list[float]] = []
        for caption in captions:
            pieces = [(self._ids(text), weight) for text, weight in parse_weights(caption)]
            ids.append([token for tokens, _ in pieces for token in tokens])
            weights.append([weight for tokens, weight in pieces for _ in tokens])
        return self._windows(ids, max_token_length), _windows(weights, max_token_length, 1.0, 1.0, 1.0)

    def prompts(self, texts: Sequence[str], max_token_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids of prompts with weights and BREAK in them, and their weights, both (batch, chunks, 77).

        All have as many chunks as the longest needs, or as `max_token_length` leaves.
        """
        rows = [self._chunks(text) for text in texts]
        count = min(max(map(len, rows)), (max_token_length or sys.maxsize) // CHUNK)
        rows = [(row + [[]] * count)[:count] for row in rows]
        ids = [[[token for token, _ in chunk] for chunk in row] for row in rows]
        weights = [[[weight for _, weight in chunk] for chunk in row] for row in rows]
        return _framed(ids, self._start, self._end, self._padding), _framed(weights, 1.0, 1.0, 1.0)

    def chunk_count(self, text: str) -> int:
        """How many chunks of 75 tokens a prompt with weights and BREAK in it takes."""
        return len(self._chunks(text))

    def _chunks(self, text: str) -> list[list[tuple[int, float]]]:
        """The tokens of a prompt with their weights, in chunks of 75 at most."""
        chunks = []
        for section in parse_sections(text):
            tokens = [(token, weight) for piece, weight in section for token in self._ids(piece)]
            chunks += [tokens[start : start + CHUNK] for start in range(0, len(tokens) or 1, CHUNK)]
        return chunks

    def _windows(self, rows: Sequence[Sequence[int]], max_token_length: int) -> Tensor:
        return _windows(rows, max_token_length, self._start, self._end, self._padding)

    def _count_word(self, word: str) -> int:
        count = self._counts.get(word)
        if count is None:
            count = self._counts[word] = len(self._ids(word))
        return count

    def _ids(self, caption: str) -> list[int]:
        """A caption's token ids without markers."""
        if self._pattern is None:
            return self._known_ids(caption)
        # A pattern in brackets splits into what is between its matches, and the matches at every second place.
        pieces = enumerate(self._pattern.split(caption))
        return [
            token
            for place, piece in pieces
            for token in (self._new_ids(piece) if place % 2 else self._known_ids(piece))
        ]

    def _new_ids(self, piece: str) -> list[int]:
        """Token ids of a new word, found by the pattern's own idea of capitals."""
        found = (ids for word, ids in self._words.items() if re.fullmatch(re.escape(word), piece, re.IGNORECASE))
        return next(found)

    def _known_ids(self, caption: str) -> list[int]:
        """Token ids of a text without new words."""
        ids: list[int] = self._rules.encode(caption, add_special_tokens=False).ids
        return ids


def _without_padding(rules: Any) -> Any:
    """A tokenizer's rules in which an exclamation mark is a word like any other.

    The folders of Stable Diffusion 2 and XL call it special, because OpenCLIP fills up with its token; so diffusers
    reads it as padding in captions too, other than the models learned it and all web UIs have it.
    """
    content = json.loads(rules.to_str())
    added = [token for token in content["added_tokens"] if token["content"] != OPEN_CLIP_PADDING]
    if len(added) == len(content["added_tokens"]):
        return rules
    return type(rules).from_str(json.dumps(content | {"added_tokens": added}))


def words_pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Finds new words in a caption, in one group: whole words, or where a word begins or ends with a mark, that."""
    alternatives = [
        (r"(?<!\w)" if word[0].isalnum() else "") + re.escape(word) + (r"(?!\w)" if word[-1].isalnum() else "")
        for word in sorted(words, key=len, reverse=True)
    ]
    return re.compile(f"({'|'.join(alternatives)})", re.IGNORECASE)


def _windows(
    rows: Sequence[Sequence[float]], max_token_length: int, first: float, last: float, padding: float
) -> Tensor:
    """Rows of numbers as (batch, chunks, 77): cut, each chunk between `first` and `last`, and filled up behind."""
    if max_token_length not in MAX_TOKEN_LENGTHS:
        raise InputError(f"max_token_length {max_token_length} is not one of 75, 150 and 225.")
    starts = range(0, max_token_length, CHUNK)
    chunks = [[row[start : min(start + CHUNK, max_token_length)] for start in starts] for row in rows]
    return _framed(chunks, first, last, padding)


def _framed(rows: Sequence[Sequence[Sequence[float]]], first: float, last: float, padding: float) -> Tensor:
    """Rows of chunks of 75 numbers at most as (batch, chunks, 77), each between `first` and `last` and filled up."""
    return torch.tensor(
        [[[first, *chunk, last, *[padding] * (CHUNK - len(chunk))] for chunk in chunks] for chunks in rows]
    )


def encode(encoder: nn.Module, tokens: Tensor, clip_skip: int | None, weights: Tensor | None = None) -> Tensor:
    """Hidden states (batch, 75 * chunks + 2, width) of token ids (batch, chunks, 77), times their `weights`.

    Each chunk is read by itself; of the markers only the first and last of all are kept, as in sd-scripts.
    With `clip_skip` N, the N-th last layer's states go through the final norm.
    """
    skip = clip_skip or 1
    states, _ = read(encoder, tokens, skip)
    if skip > 1:
        inner: Any = getattr(encoder, "text_model", encoder)
        states = inner.final_layer_norm(states)
    return joined(states, weights)


def read(encoder: Any, tokens: Tensor, skip: int) -> tuple[Tensor, Tensor | None]:
    """States (batch, chunks, 77, width) of the `skip`-th last layer, normed only if that is the last; and the
    projection (batch, width) of the first chunk's end marker, where the encoder has one.
    """
    batch, chunks, _ = tokens.shape
    layers = encoder.config.num_hidden_layers
    if not 1 <= skip <= layers:
        raise InputError(f"clip_skip {skip} is not between 1 and {layers}, the text encoder's layers.")
    answer = encoder(input_ids=tokens.flatten(0, 1), output_hidden_states=skip > 1)
    states = answer.last_hidden_state if skip == 1 else answer.hidden_states[-skip]
    pooled = answer.get("text_embeds")
    first = None if pooled is None else pooled.unflatten(0, (batch, chunks))[:, 0]
    return states.unflatten(0, (batch, chunks)), first


def joined(states: Tensor, weights: Tensor | None = None) -> Tensor:
    """The states (batch, chunks, 77, width) of all chunks in a row, (batch, 75 * chunks + 2, width); times the
    `weights` (batch, chunks, 77) of their tokens if there are some.
    """
    if weights is not None:
        states = emphasise(states.flatten(0, 1), weights.flatten(0, 1)).unflatten(0, states.shape[:2])
    if states.shape[1] == 1:
        return states[:, 0]
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
