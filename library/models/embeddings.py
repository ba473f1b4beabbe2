"""New words for a base model: rows of the text encoders beside those of their vocabulary, and the files that hold them.

A word that is learned so is a textual inversion (Gal et al. 2022, arXiv 2208.01618).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from library.errors import InputError
from library.files import write_atomically
from library.models.text import MARKS
from library.weights import load_tensors, load_weights_only, read_header, save_tensors

# The text part of a family -> the name of its vectors in a file, where there are two parts; and where there is one.
NAMES = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
ALONE = "emb_params"
WORD_ENTRY = "modelspec.trigger_phrase"  # in a file's metadata, the word that was learned
FORMS = (
    "an embedding is a .safetensors file with emb_params, or with clip_l and clip_g for XL, a .pt file of the web UIs, "
    "or a file of diffusers with one tensor by the word's name"
)
ANY_TOKEN = 265  # CLIP's "*", which AUTOMATIC1111's files call the token that they stand for


@dataclass(frozen=True)
class Embedding:
    """A word, and for each text part of the model its vectors (vectors, width), float32; all parts have as many.

    `name` is what messages call it, as a rule its file.
    """

    word: str
    vectors: Mapping[str, Tensor]
    name: str = "the embedding"

    @property
    def count(self) -> int:
        """How many tokens the word is read as."""
        return len(next(iter(self.vectors.values())))


class WiderVocabulary(nn.Module):
    """The rows of a frozen vocabulary, and behind them rows of new words, which alone may learn.

    So nothing of the vocabulary gets a gradient or an optimizer's state, and the new rows can be float32 beside
    weights of half precision; what is looked up has the vocabulary's number format.
    """

    def __init__(self, known: nn.Module, rows: Tensor) -> None:
        """`known` is an nn.Embedding, or this again; `rows` are (vectors, width)."""
        super().__init__()
        self.known = known
        self.first = size_of(known)
        self.rows = nn.Parameter(rows.detach().float().clone(), requires_grad=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Rows (..., width) of token ids (...)."""
        is_new = ids >= self.first
        known: Tensor = self.known(ids.masked_fill(is_new, 0))
        new = nn.functional.embedding((ids - self.first).clamp(0, len(self.rows) - 1), self.rows)
        return torch.where(is_new[..., None], new.to(known.dtype), known)


def size_of(vocabulary: nn.Module) -> int:
    """How many tokens a vocabulary has, new words among them."""
    if isinstance(vocabulary, WiderVocabulary):
        return vocabulary.first + len(vocabulary.rows)
    assert isinstance(vocabulary, nn.Embedding)
    return vocabulary.num_embeddings


def add_rows(encoder: nn.Module, rows: Tensor) -> nn.Parameter:
    """Gives a text encoder rows for the next new word, frozen as yet; returns their parameter, float32."""
    place = _embeddings_of(encoder)
    device = next(place.parameters()).device
    place.token_embedding = WiderVocabulary(place.token_embedding, rows.to(device))
    return place.token_embedding.rows


def rows_of(encoder: nn.Module, ids: Sequence[int]) -> Tensor:
    """Copies of the rows (ids, width) of some tokens, float32."""
    place = _embeddings_of(encoder)
    device = next(place.parameters()).device
    with torch.no_grad():
        rows: Tensor = place.token_embedding(torch.tensor(ids, device=device))
    return rows.float().clone()


def mean_norm(encoder: nn.Module) -> float:
    """The mean length of the vocabulary's rows, new words left out; of CLIP ViT-L about 0.4."""
    vocabulary = _embeddings_of(encoder).token_embedding
    while isinstance(vocabulary, WiderVocabulary):
        vocabulary = vocabulary.known
    return float(vocabulary.weight.detach().float().norm(dim=1).mean())


def put_on(encoders: Mapping[str, nn.Module], embedding: Embedding) -> None:
    """Gives a model's text encoders, by part, the rows of a word that its tokenizers have been told of.

    Raises InputError where it was made for another model.
    """
    widths = {part: rows_of(encoder, [0]).shape[1] for part, encoder in encoders.items()}
    found = {part: vectors.shape[1] for part, vectors in embedding.vectors.items()}
    if found != widths:
        raise InputError(
            f"{embedding.name} does not fit the base model: its vectors have {_widths(found)} numbers, and those of "
            f"the model's text encoders {_widths(widths)}."
        )
    for part, encoder in encoders.items():
        add_rows(encoder, embedding.vectors[part])


def read_embedding(path: Path, word: str | None = None) -> Embedding:
    """The embedding in a file of any form that UIs and trainers write; pickles are read without running code.

    Its word is `word`, or else what the file says that it is, or the file's name without its ending.

    Raises InputError for a file that is missing, broken, of another kind, or a pickle of more than tensors.
    """
    path = Path(path)
    if path.suffix.lower() == ".safetensors":
        said, content = read_header(path)[0].get(WORD_ENTRY), load_tensors(path)
    else:
        said, content = None, load_weights_only(path)
    found, named = _vectors_in(content, path)
    told = next((each for each in (said, named) if isinstance(each, str) and _is_word(each)), None)
    vectors = {part: _checked(tensor, path) for part, tensor in found.items()}
    if len({len(each) for each in vectors.values()}) > 1:
        raise InputError(f"{path}: the two text encoders have different numbers of vectors; the file is damaged.")
    return Embedding(word or told or path.stem, vectors, str(path))


def write_embedding(
    path: Path, embedding: Embedding, metadata: Mapping[str, str], dtype: torch.dtype | None = None
) -> None:
    """Writes the .safetensors file that the UIs load, and reads it back; raises RuntimeError if it then differs."""
    described = {**metadata, WORD_ENTRY: embedding.word}
    save_tensors(path, embedding_tensors(embedding, dtype), described)
    if read_header(path)[0] != described:
        raise RuntimeError(f"{path} was not written rightly: its metadata differs from memory.")
    _compare(path, embedding, dtype)


def write_pickle(
    path: Path, embedding: Embedding, step: int, base_name: str, dtype: torch.dtype | None = None
) -> None:
    """Writes the .pt file of AUTOMATIC1111, or of two tensors for XL, and reads it back.

    In torch's old form, because that program refuses what newer torch puts into the new one.
    """
    tensors = embedding_tensors(embedding, dtype)
    content: dict[str, Any] = dict(tensors)
    if ALONE in tensors:
        content = {
            "string_to_token": {"*": ANY_TOKEN},
            "string_to_param": {"*": tensors[ALONE]},
            "name": embedding.word,
            "step": step,
            "sd_checkpoint": None,
            "sd_checkpoint_name": base_name,
        }
    write_atomically(path, lambda file: torch.save(content, file, _use_new_zipfile_serialization=False))
    _compare(path, embedding, dtype)


def embedding_tensors(embedding: Embedding, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The vectors by their names in a file, on the CPU; None is float32."""
    alone = len(embedding.vectors) == 1
    return {
        ALONE if alone else NAMES[part]: vectors.detach().to("cpu", dtype or torch.float32, copy=True).contiguous()
        for part, vectors in embedding.vectors.items()
    }


def _is_word(text: str) -> bool:
    return bool(text) and not MARKS.search(text)


def _embeddings_of(encoder: nn.Module) -> Any:
    """The module of a CLIP text model that holds the vocabulary, in old and new transformers."""
    return getattr(encoder, "text_model", encoder).embeddings


def _widths(widths: Mapping[str, int]) -> str:
    return " and ".join(str(width) for width in widths.values())


def _vectors_in(content: Any, path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors by text part, and the word that their form names, if it does."""
    named = content if isinstance(content, Mapping) else {}
    inner = named.get("string_to_param")
    if isinstance(inner, Mapping) and [type(value) for value in inner.values()] == [Tensor]:
        return {"text_encoder": next(iter(inner.values()))}, named.get("name")
    tensors = {str(key): value for key, value in named.items() if isinstance(value, Tensor)}
    parts = {part: tensors[name] for part, name in NAMES.items() if name in tensors}
    if parts and len(parts) == len(tensors):
        return parts, None
    if len(tensors) == 1:
        [(key, tensor)] = tensors.items()
        return {"text_encoder": tensor}, None if key == ALONE else key
    found = f"{len(tensors)} tensors ({', '.join(sorted(tensors)[:3])} ...)" if tensors else "no tensors"
    raise InputError(f"{path} holds {found} and is no embedding; {FORMS}.")


def _checked(tensor: Tensor, path: Path) -> Tensor:
    """Vectors (vectors, width) in float32; files of one vector may leave the first size out."""
    vectors = tensor.detach()[None] if tensor.ndim == 1 else tensor.detach()
    if vectors.ndim != 2 or not len(vectors) or not vectors.is_floating_point():
        raise InputError(f"{path} is no embedding: a tensor of shape {tuple(tensor.shape)} holds no words; {FORMS}.")
    if not torch.isfinite(vectors).all():
        raise InputError(f"{path} is damaged: its vectors hold numbers that are none.")
    return vectors.float()


def _compare(path: Path, embedding: Embedding, dtype: torch.dtype | None) -> None:
    """Raises RuntimeError if the file does not hold what is in memory."""
    written, meant = embedding_tensors(read_embedding(path), dtype), embedding_tensors(embedding, dtype)
    if written.keys() != meant.keys() or any(not torch.equal(written[key], meant[key]) for key in meant):
        raise RuntimeError(f"{path} was not written rightly: its vectors differ from memory.")
