"""New words: rows that learn beside a frozen vocabulary, and the files that UIs load."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import Tensor, nn

from library.errors import InputError
from library.models import embeddings
from library.models.embeddings import Embedding, add_rows, mean_norm, put_on, read_embedding, rows_of
from library.models.family import Family, open_family
from library.weights import load_weights_only, read_header, save_tensors
from tests.toy_families import write_toy

FIRST = 49408  # the first token behind CLIP's vocabulary
WIDTHS = {"sd1": {"text_encoder": 32}, "sdxl": {"text_encoder": 24, "text_encoder_2": 40}}


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp(request.param) / "model", request.param)


def vectors_of(family: str, count: int = 2) -> dict[str, Tensor]:
    """Vectors about as long as the toy's."""
    draw = torch.Generator().manual_seed(5)
    return {part: 0.1 * torch.randn(count, width, generator=draw) for part, width in WIDTHS[family].items()}


def told(folder: Path, embedding: Embedding) -> tuple[Family, list[nn.Module]]:
    """The model, knowing a word."""
    family = open_family(str(folder))
    family.add_word(embedding.word, embedding.count)
    encoders = family.load_text_encoders(torch.float32)
    put_on(dict(zip(family.text_parts, encoders, strict=True)), embedding)
    return family, encoders


def test_a_word_that_is_a_copy_reads_as_the_word_it_copies(folder: Path) -> None:
    family = open_family(str(folder))
    encoders = family.load_text_encoders(torch.float32)
    dog = family.tokenize(["dog"], 75)[0].ids[0, 0, 1].item()
    plain = family.encode_text(encoders, family.tokenize(["a red dog runs"], 75))
    vectors = {part: rows_of(each, [dog]) for part, each in zip(family.text_parts, encoders, strict=True)}
    family, encoders = told(folder, Embedding("<toy>", vectors))
    tokens = family.tokenize(["a red <toy> runs"], 75)
    assert all(each.ids[0, 0, 3] == FIRST for each in tokens)
    found = family.encode_text(encoders, tokens)
    assert torch.equal(found.hidden, plain.hidden)
    if plain.pooled is not None:  # it is that of the end marker, and not of the highest token
        assert torch.equal(found.pooled, plain.pooled)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_only_new_rows_learn(folder: Path, dtype: torch.dtype) -> None:
    family = open_family(str(folder))
    family.add_word("<toy>", 2)
    encoders = family.load_text_encoders(dtype)
    before = [{name: each.clone() for name, each in encoder.state_dict().items()} for encoder in encoders]
    rows = [add_rows(encoder, torch.full((2, encoder.config.hidden_size), 0.01)) for encoder in encoders]
    assert not any(each.requires_grad for each in rows)
    for each in rows:
        each.requires_grad_(True)
    optimizer = torch.optim.AdamW(rows, lr=0.1)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        condition = family.encode_text(encoders, family.tokenize(["a <toy>", "<toy> here"], 75))
    condition.hidden.float().square().sum().backward()
    optimizer.step()
    for encoder, known, each in zip(encoders, before, rows, strict=True):
        assert each.dtype == torch.float32 and (each.grad.abs().sum(dim=1) > 0).all()
        frozen = {name.replace(".known.", "."): tensor for name, tensor in encoder.state_dict().items()}
        assert all(torch.equal(frozen[name], tensor) for name, tensor in known.items())
        learning = [name for name, each in encoder.named_parameters() if each.requires_grad or each.grad is not None]
        assert [name.rpartition(".")[2] for name in learning] == ["rows"]
    assert len(optimizer.state) == len(rows)


def test_several_words_stand_in_the_order_of_adding(folder: Path) -> None:
    family = open_family(str(folder))
    family.add_word("<one>", 2)
    family.add_word("<two>", 1)
    tokens = family.tokenize(["<two> <one>"], 75)[0].ids[0, 0, 1:4].tolist()
    assert tokens == [FIRST + 2, FIRST, FIRST + 1]
    encoder = family.load_text_encoders(torch.float32)[0]
    usual = mean_norm(encoder)
    add_rows(encoder, torch.full((2, encoder.config.hidden_size), 1.0))
    add_rows(encoder, torch.full((1, encoder.config.hidden_size), 2.0))
    assert rows_of(encoder, tokens)[:, 0].tolist() == [2.0, 1.0, 1.0]
    assert mean_norm(encoder) == usual and usual > 0
    assert torch.equal(rows_of(encoder, [7]), rows_of(family.load_text_encoders(torch.float32)[0], [7]))


@pytest.mark.parametrize("family", WIDTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_files_hold_what_the_uis_ask_for(tmp_path: Path, family: str, dtype: torch.dtype) -> None:
    embedding = Embedding("<toy>", vectors_of(family))
    path, pickle = tmp_path / "a.safetensors", tmp_path / "a.pt"
    embeddings.write_embedding(path, embedding, {"modelspec.title": "a"}, dtype)
    embeddings.write_pickle(pickle, embedding, 7, "base", dtype)
    metadata, tensors = read_header(path)
    expected = {"emb_params": (2, 32)} if family == "sd1" else {"clip_l": (2, 24), "clip_g": (2, 40)}
    assert {name: shape for name, (_, shape) in tensors.items()} == expected
    assert metadata == {"modelspec.title": "a", "modelspec.trigger_phrase": "<toy>"}
    assert pickle.read_bytes()[:2] != b"PK"  # AUTOMATIC1111 refuses what torch puts into zip files today
    content = load_weights_only(pickle)
    if family == "sd1":
        assert (content["name"], content["step"], content["string_to_token"]) == ("<toy>", 7, {"*": 265})
        assert content["string_to_param"]["*"].dtype == dtype
    else:
        assert content.keys() == {"clip_l", "clip_g"}
    for file in (path, pickle):
        found = read_embedding(file)
        assert {each.dtype for each in found.vectors.values()} == {torch.float32}
        assert all(torch.equal(found.vectors[part], each.to(dtype).float()) for part, each in embedding.vectors.items())
        assert found.word == ("<toy>" if file == path or family == "sd1" else "a")
    assert {each.name for each in tmp_path.iterdir()} == {"a.safetensors", "a.pt"}


ONE = torch.ones(1, 32)
STRANGE_FORMS = {
    "learned_embeds.bin": ({"<cat-toy>": ONE[0]}, "<cat-toy>"),
    "old.pt": ({"string_to_param": {"*": ONE}, "string_to_token": {"*": 265}, "name": "tom"}, "tom"),
    "named badly.pt": ({"string_to_param": {"*": ONE}, "name": "a (b)"}, "named badly"),
    "zip.pt": ({"emb_params": ONE}, "zip"),
    "comfy.pt": ({"clip_l": ONE}, "comfy"),
}


@pytest.mark.parametrize("name", STRANGE_FORMS)
def test_other_programs_files_are_read(tmp_path: Path, name: str) -> None:
    content, word = STRANGE_FORMS[name]
    torch.save(content, tmp_path / name)
    found = read_embedding(tmp_path / name)
    assert found.word == word and torch.equal(found.vectors["text_encoder"], ONE)
    assert read_embedding(tmp_path / name, "<mine>").word == "<mine>"


def test_diffusers_safetensors_are_named_by_their_key(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {"<cat-toy>": ONE})
    assert read_embedding(tmp_path / "a.safetensors").word == "<cat-toy>"


class Bomb:
    """What a pickle may do that is not read without running code."""

    def __reduce__(self) -> tuple[object, ...]:
        return print, ("boom",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"string_to_param": {"*": Bomb()}}, "could run code"),
        ({"a": ONE, "b": ONE}, "2 tensors"),
        ({"string_to_param": {"*": ONE, "b": ONE}}, "no tensors"),
        ([ONE], "no tensors"),
        ({"emb_params": torch.ones(1, 1, 3)}, "holds no words"),
        ({"emb_params": torch.ones(0, 3)}, "holds no words"),
        ({"emb_params": torch.ones(1, 3, dtype=torch.int64)}, "holds no words"),
        ({"emb_params": ONE / 0}, "numbers that are none"),
        ({"clip_l": ONE, "clip_g": torch.ones(2, 8)}, "different numbers of vectors"),
    ],
)
def test_what_is_no_embedding_is_refused(
    tmp_path: Path, content: object, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=words):
        read_embedding(tmp_path / "a.pt")
    assert "boom" not in capsys.readouterr().out


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    embeddings.write_embedding(path, Embedding("<toy>", {"text_encoder": ONE}), {})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cut short"):
        read_embedding(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_embedding(tmp_path / "none.pt")


def test_another_models_embedding_is_refused(folder: Path) -> None:
    family = open_family(str(folder))
    encoders = dict(zip(family.text_parts, family.load_text_encoders(torch.float32), strict=True))
    with pytest.raises(InputError, match=r"my.pt does not fit the base model: its vectors have 768 numbers"):
        put_on(encoders, Embedding("<toy>", {"text_encoder": torch.ones(1, 768)}, "my.pt"))


@pytest.mark.parametrize(
    ("word", "reason"),
    [("sks", "vocabulary has it"), ("Dog", "vocabulary has it"), ("", "leave out blanks"), ("my dog", "leave out"),
     ("<a,b>", "leave out"), ("<a:1>", "leave out"), ("{a}", "leave out"), ("<Toy>", "given twice")],
)  # fmt: skip
def test_words_that_cannot_be_new(folder: Path, word: str, reason: str) -> None:
    family = open_family(str(folder))
    family.add_word("<toy>", 3)
    with pytest.raises(InputError, match=reason):
        family.add_word(word, 1)


def test_diffusers_reads_our_files_as_we_do(folder: Path, tmp_path: Path) -> None:
    """Offline, on a toy pipeline, as a user would: both files of SD 1.x, and of XL each encoder's tensor by hand."""
    kind = "sd1" if folder.parent.name.startswith("sd1") else "sdxl"
    embedding = Embedding("<toy>", vectors_of(kind))
    embeddings.write_embedding(tmp_path / "a.safetensors", embedding, {})
    embeddings.write_pickle(tmp_path / "a.pt", embedding, 1, "base")
    family, encoders = told(folder, embedding)
    tokens = family.tokenize(["a red <toy> runs"], 75)
    ours = family.encode_text(encoders, tokens)
    for file in (tmp_path / "a.safetensors", tmp_path / "a.pt"):
        if kind == "sd1":
            pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, local_files_only=True)
            pipeline.load_textual_inversion(file, token="<toy>" if file.suffix == ".safetensors" else None)
            theirs = pipeline.encode_prompt("a red <toy> runs", "cpu", 1, False)[0]
        else:
            pipeline = StableDiffusionXLPipeline.from_pretrained(folder, local_files_only=True)
            state = embeddings.embedding_tensors(read_embedding(file))
            pairs = (("clip_l", "text_encoder", "tokenizer"), ("clip_g", "text_encoder_2", "tokenizer_2"))
            for key, encoder, tokenizer in pairs:
                modules = {"text_encoder": getattr(pipeline, encoder), "tokenizer": getattr(pipeline, tokenizer)}
                pipeline.load_textual_inversion(state[key], token="<toy>", **modules)
            theirs, _, pooled, _ = pipeline.encode_prompt("a red <toy> runs", do_classifier_free_guidance=False)
            torch.testing.assert_close(ours.pooled, pooled, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.hidden, theirs, atol=1e-5, rtol=1e-5)
