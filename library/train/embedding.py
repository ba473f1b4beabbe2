"""Textual inversion: a new word's rows in the text encoders, which learn alone, beside a network, or before it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from library.adapters.network import Network
from library.data.captions import whole_captions
from library.data.pictures import Picture
from library.errors import InputError
from library.log import warn
from library.models.embeddings import Embedding, add_rows, mean_norm, rows_of
from library.models.family import Family
from library.models.text import words_pattern
from library.optim.optimizers import finds_own_rate
from library.settings import Settings

PART = "embedding"
RATE = 5e-3  # that of the textual-inversion paper and of AUTOMATIC1111
# How long a row may be against the mean of the vocabulary. Words that grow without end drown out the others of a
# prompt; NeTI (Alaluf et al. 2023, arXiv 2305.15391) keeps its words exactly as long as a real one for that.
SHORTEST, LONGEST = 0.5, 2.0


class NewWord:
    """A word that learns: one parameter of rows for each text encoder."""

    def __init__(self, word: str, rows: Mapping[str, nn.Parameter], usual: Mapping[str, float]) -> None:
        """`rows` are (vectors, width) and `usual` the mean length of the vocabulary's rows, both by text part."""
        self.word, self.rows, self.usual = word, dict(rows), dict(usual)
        self.layers: dict[str, dict[str, Any]] = {PART: dict(rows)}

    def parameters(self, part: str) -> list[nn.Parameter]:
        """The rows of each text encoder, float32."""
        return list(self.rows.values()) if part == PART else []

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the rows on the CPU."""
        return {f"{PART}.{part}": rows.detach().to("cpu", copy=True) for part, rows in self.rows.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave. Raises InputError where it does not fit."""
        for part, rows in self.rows.items():
            given = state.get(f"{PART}.{part}")
            if given is None or given.shape != rows.shape:
                raise InputError(f"the state holds no rows of shape {tuple(rows.shape)} for the word {self.word!r}.")
            rows.copy_(given)

    def embedding(self) -> Embedding:
        """The word as it is now."""
        return Embedding(self.word, {part: rows.detach().cpu().clone() for part, rows in self.rows.items()})

    @torch.no_grad()
    def keep_usual(self) -> None:
        """Brings rows that are far too long or too short for a word to the nearest length that is not."""
        for part, rows in self.rows.items():
            if not rows.requires_grad:
                continue  # it is the network's turn, and not even a last bit is to move
            length = rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
            wanted = length.clamp(SHORTEST * self.usual[part], LONGEST * self.usual[part])
            rows.copy_(torch.where(wanted == length, rows, rows * (wanted / length)))


class Pivot:
    """A network and a new word that learn in one run (pivotal tuning)."""

    def __init__(self, network: Network, word: NewWord) -> None:
        self.network, self.word = network, word
        self.layers: dict[str, dict[str, Any]] = {**network.layers, **word.layers}

    def parameters(self, part: str) -> list[nn.Parameter]:
        """What learns in a part; that of the word is called "embedding"."""
        return self.word.parameters(part) if part == PART else self.network.parameters(part)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the network's tensors and the word's."""
        return {**self.network.state_dict(), **self.word.state_dict()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave. Raises InputError where it does not fit."""
        words = {name: tensor for name, tensor in state.items() if name.startswith(f"{PART}.")}
        self.word.load(words)
        self.network.load({name: tensor for name, tensor in state.items() if name not in words})


def embedding_rate(settings: Settings) -> float:
    """The new word's learning rate; an optimizer that finds its own needs that of everything else."""
    if settings.embedding_lr is not None:
        return settings.embedding_lr
    return settings.learning_rate if finds_own_rate(settings.optimizer_type) else RATE


def embedding_spans(settings: Settings, parts: Sequence[str], steps: int) -> dict[str, range]:
    """The steps in which the word and then the network's parts learn, where they take turns; by part.

    Raises InputError where the run is too short for both.
    """
    if settings.ti_steps is None:
        return {}
    first = max(1, round(settings.ti_steps * steps)) if settings.ti_steps < 1 else int(settings.ti_steps)
    if first >= steps:
        raise InputError(
            f"ti_steps = {settings.ti_steps} leaves the network no step of the run's {steps}; lower it, or set "
            "embedding_only."
        )
    return {part: range(first) if part == PART else range(first, steps) for part in parts}


def start_word(settings: Settings, family: Family, encoders: Mapping[str, nn.Module]) -> NewWord:
    """Gives the text encoders, by part, rows for `token_string` that are copies of those of `init_word`.

    With fewer vectors than `init_word` has tokens the last of them are not used; with more they are used again.
    """
    word, start, count = settings.token_string or "", settings.init_word or "", settings.num_vectors_per_token
    found = family.token_count(start)
    if not found:
        raise InputError(f"init_word {start!r} has no tokens; give a known word, such as creature.")
    if found > count:
        warn(
            f"init_word {start!r} has {found} tokens, of which the first {count} are used; set num_vectors_per_token = "
            f"{found} to use all."
        )
    rows, usual = {}, {}
    for (part, encoder), tokens in zip(encoders.items(), family.tokenize([start], 75), strict=True):
        known = tokens.ids[0, 0, 1 : 1 + found].tolist()
        usual[part] = mean_norm(encoder)
        rows[part] = add_rows(encoder, rows_of(encoder, [known[n % len(known)] for n in range(count)]))
        rows[part].requires_grad_(True)
    return NewWord(word, rows, usual)


def check_word(settings: Settings, pictures: Sequence[Picture]) -> None:
    """Sees to it that captions hold the new word. Raises InputError where none does, and warns where some do not.

    Prefix, suffix and trigger words count, as they are what is read; class pictures have no part in it.
    """
    if settings.token_string is None:
        return
    word = settings.token_string
    pattern = words_pattern([word])
    wanted = [picture for picture in pictures if not picture.subset.is_reg]
    silent = [picture for picture in wanted if not any(map(pattern.search, _texts_of(picture)))]
    if not silent:
        return
    remedy = f"set trigger_words = '{word}' to have it put in front, or write it into them"
    if len(silent) == len(wanted):
        raise InputError(
            f"token_string '{word}' is in none of the {len(wanted)} captions, such as that of {silent[0].path}, so "
            f"that it would learn nothing; {remedy}."
        )
    warn(f"{len(silent)} of {len(wanted)} captions lack token_string '{word}'; {remedy}.")


def _texts_of(picture: Picture) -> list[str]:
    """What a picture's caption may come as: its lines, and all that one of several choices may say."""
    return [*whole_captions(picture.caption, picture.subset), picture.caption]
