"""How a new word becomes files: by itself, or beside the network that learned with it."""

from dataclasses import dataclass, replace
from pathlib import Path

from library.adapters.metadata import TrainingFacts, training_metadata
from library.models.embeddings import WORD_ENTRY, embedding_tensors, write_embedding, write_pickle
from library.settings import Settings
from library.settings.whole_checks import EMBEDDING_ENDING, places
from library.train.embedding import NewWord
from library.train.results import SAVE_DTYPES, Result, size_of
from library.weights import tensors_sha256

IMPLEMENTATION = "https://github.com/Stability-AI/generative-models"  # what the standard has all embeddings say


@dataclass(frozen=True)
class EmbeddingResult:
    """The word alone: a .safetensors file, and the same as a .pt file for UIs that know no other."""

    settings: Settings
    word: NewWord
    kind: str = "embedding"

    def write(self, path: Path, facts: TrainingFacts) -> None:
        """Writes the word of now in the form that the path ends in, and reads it back."""
        embedding, dtype = self.word.embedding(), SAVE_DTYPES[self.settings.save_precision]
        if path.suffix == ".pt":
            write_pickle(path, embedding, facts.steps, facts.base_name, dtype)
            return
        told = training_metadata(_with_word(facts, self.word.word))
        own = {key: value for key, value in told.items() if not key.startswith("ss_network_")}
        digest = tensors_sha256(embedding_tensors(embedding, dtype))
        own |= {
            "modelspec.architecture": f"{facts.architecture}/textual-inversion",
            "modelspec.implementation": IMPLEMENTATION,
            "modelspec.hash_sha256": f"0x{digest}",
        }
        write_embedding(path, embedding, own, dtype)

    def size(self) -> int:
        """Bytes of one file, about."""
        return size_of(self.settings, self.word.state_dict().values())


@dataclass(frozen=True)
class PivotResult:
    """The network's file, and beside it the word's, which ends in -embedding.safetensors."""

    adapter: Result
    embedding: EmbeddingResult
    kind: str = "LoRA"

    def write(self, path: Path, facts: TrainingFacts) -> None:
        """Writes the word or the network of now, as the path ends, and reads it back."""
        if path.stem.endswith(EMBEDDING_ENDING):
            self.embedding.write(path, facts)
        else:
            self.adapter.write(path, _with_word(facts, self.embedding.word.word))

    def size(self) -> int:
        """Bytes of the larger file, about."""
        return max(self.adapter.size(), self.embedding.size())


def how_to_use(settings: Settings, stem: Path) -> str | None:
    """What to tell of the files of a new word when a run named `stem` is done; None where there is none."""
    if settings.token_string is None:
        return None
    file = places(settings, stem)[0 if settings.embedding_only else 1]
    return (
        f"In prompts the new word is {settings.token_string} for tools/generate.py --embedding {file}, and the name of "
        f"the file, {file.stem}, in the web UIs."
    )


def _with_word(facts: TrainingFacts, word: str) -> TrainingFacts:
    """The facts with the word that calls up what was learned."""
    name = f"metadata_{WORD_ENTRY.removeprefix('modelspec.')}"
    return replace(facts, settings={**facts.settings, name: word})
