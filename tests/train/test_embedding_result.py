"""The files of a new word, with or without a network, and what is said of them."""

from pathlib import Path

import pytest
import torch

from library.adapters.metadata import TrainingFacts
from library.models.embeddings import read_embedding
from library.train.embedding import NewWord
from library.train.embedding_result import EmbeddingResult, PivotResult, how_to_use
from library.train.results import AdapterResult
from library.weights import load_weights_only, read_header, tensors_sha256

WORD = {"token_string": "<toy>", "init_word": "toy"}
FACTS = TrainingFacts("toy", "base", steps=9, settings={"learning_rate": 0.1, "metadata_trigger_phrase": "old"})


@pytest.fixture
def word() -> NewWord:
    """Two rows for one text encoder."""
    rows = torch.nn.Parameter(torch.arange(64.0).view(2, 32))
    return NewWord("<toy>", {"text_encoder": rows}, {"text_encoder": 1.0})


class Recorder(AdapterResult):
    """Stands in for the network's file."""

    def write(self, path: Path, facts: TrainingFacts) -> None:
        path.write_text(str(facts.settings["metadata_trigger_phrase"]))


def test_the_safetensors_file_tells_where_it_comes_from(settings_of, word, tmp_path: Path) -> None:
    path = tmp_path / "toy.safetensors"
    EmbeddingResult(settings_of(**WORD, embedding_only=True), word).write(path, FACTS)
    told, tensors = read_header(path)
    assert list(tensors) == ["emb_params"]
    expected = {
        "modelspec.architecture": "stable-diffusion-v1/textual-inversion",
        "modelspec.trigger_phrase": "<toy>",
        "modelspec.title": "toy",
        "modelspec.hash_sha256": "0x" + tensors_sha256({"emb_params": word.rows["text_encoder"]}),
        "ss_steps": "9",
        "ss_learning_rate": "0.1",
        "ss_base_model_version": "sd_v1",
    }
    assert {key: told.get(key) for key in expected} == expected
    assert not [key for key in told if key.startswith("ss_network")]
    assert torch.equal(read_embedding(path).vectors["text_encoder"], word.rows["text_encoder"])


@pytest.mark.parametrize(("precision", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_both_files_are_of_the_precision_that_is_asked_for(settings_of, word, tmp_path: Path, precision, dtype) -> None:
    result = EmbeddingResult(settings_of(**WORD, embedding_only=True, save_precision=precision), word)
    for name in ("toy.safetensors", "toy.pt"):
        result.write(tmp_path / name, FACTS)
        assert read_embedding(tmp_path / name).word == "<toy>"
    content = load_weights_only(tmp_path / "toy.pt")
    assert content["string_to_param"]["*"].dtype == dtype
    assert (content["step"], content["sd_checkpoint_name"]) == (9, "base")
    assert read_header(tmp_path / "toy.safetensors")[1]["emb_params"][0] == {"fp16": "F16", "bf16": "BF16"}[precision]


def test_the_metadata_can_be_left_out(settings_of, word, tmp_path: Path) -> None:
    facts = TrainingFacts("toy", "base", no_metadata=True)
    EmbeddingResult(settings_of(**WORD, embedding_only=True), word).write(tmp_path / "toy.safetensors", facts)
    told = read_header(tmp_path / "toy.safetensors")[0]
    assert {key for key in told if key.startswith("ss_")} == {"ss_v2", "ss_base_model_version"}
    assert read_embedding(tmp_path / "toy.safetensors").word == "<toy>"


def test_word_and_network_lie_side_by_side(settings_of, word, tmp_path: Path) -> None:
    settings = settings_of(**WORD)
    result = PivotResult(Recorder(settings, None), EmbeddingResult(settings, word))
    for name in ("toy.safetensors", "toy-embedding.safetensors"):
        result.write(tmp_path / name, FACTS)
    assert (tmp_path / "toy.safetensors").read_text() == "<toy>"
    assert read_embedding(tmp_path / "toy-embedding.safetensors").count == 2
    assert result.kind == "LoRA"


def test_what_is_said_of_them(settings_of) -> None:
    assert how_to_use(settings_of(), Path("o/toy")) is None
    both = how_to_use(settings_of(**WORD), Path("o/toy"))
    alone = how_to_use(settings_of(**WORD, embedding_only=True), Path("o/toy"))
    assert "<toy>" in both and "--embedding o/toy-embedding.safetensors" in both and "toy-embedding, in" in both
    assert "--embedding o/toy.safetensors" in alone and "toy, in the web UIs" in alone
