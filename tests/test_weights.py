"""Files of tensors: whole or not at all, no code from strangers, and kohya's hashes."""

import hashlib
import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from library import weights
from library.errors import InputError
from library.weights import Later, load_checkpoint, load_tensors, read_header, stream_tensors

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(4, dtype=torch.float16)}


class Stranger:
    """Stands for a class of a program that is not here."""

    def __init__(self) -> None:
        self.something = 1


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm",)


def sentence(call, *arguments) -> str:
    """What the InputError of a call says."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value)


def test_tensors_are_read_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    turned = torch.arange(6.0).view(2, 3).t()  # not contiguous
    weights.save_tensors(path, TENSORS | {"c": turned.requires_grad_()}, {"ss_seed": "1"})
    metadata, entries = weights.read_header(path)
    assert metadata == {"ss_seed": "1"}
    assert entries == {"a": ("F16", (4,)), "b": ("F32", (2, 3)), "c": ("F32", (3, 2))}
    assert torch.equal(weights.load_tensors(path)["c"], turned)
    assert list(weights.load_tensors(path, ["b"])) == ["b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00not a json table", "no safetensors file"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "no safetensors file"),
        (b"\xff" * 40, "no safetensors file"),
    ],
)
def test_other_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    said = sentence(weights.read_header, path)
    assert words in said
    assert said.startswith(str(path))


def test_a_file_cut_short_is_found_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "cut short" in sentence(weights.load_tensors, path)
    assert "No such file" in sentence(weights.read_header, tmp_path / "none.safetensors")


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_checkpoints_of_every_form(tmp_path: Path, is_zip: bool, depth: int) -> None:
    content: dict[str, object] = dict(TENSORS)
    for _ in range(depth):
        content = {"state_dict": content, "epoch": 3, "note": "words"}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=is_zip)
    texts, loaded = weights.read_checkpoint(tmp_path / "a.ckpt")
    assert texts == ({"note": "words"} if depth else {})
    assert loaded.keys() == TENSORS.keys()
    assert all(torch.equal(loaded[key], TENSORS[key]) for key in TENSORS)
    assert weights.load_any(tmp_path / "a.ckpt").keys() == TENSORS.keys()


def test_objects_of_the_first_trainers_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stranger, "__module__", "pytorch_lightning.callbacks")
    monkeypatch.setitem(__import__("sys").modules, "pytorch_lightning", type(os)("pytorch_lightning"))
    module = type(os)("pytorch_lightning.callbacks")
    module.Stranger = Stranger
    monkeypatch.setitem(__import__("sys").modules, "pytorch_lightning.callbacks", module)
    torch.save({"state_dict": TENSORS, "callbacks": {Stranger: Stranger()}}, tmp_path / "a.ckpt")
    assert weights.load_checkpoint(tmp_path / "a.ckpt").keys() == TENSORS.keys()


def test_no_code_of_a_checkpoint_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": TENSORS, "extra": Harmful()}, tmp_path / "a.ckpt")
    said = sentence(weights.load_checkpoint, tmp_path / "a.ckpt")
    assert "mkdir" in said and ".safetensors" in said
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    sentence(weights.load_checkpoint, tmp_path / "b.ckpt")
    assert not (tmp_path / "harm").exists()


def test_broken_checkpoints_are_refused(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.ckpt")
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "a.ckpt").read_bytes()[:-200])
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty.ckpt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "list.ckpt")
    for name in ("cut.ckpt", "text.ckpt", "empty.ckpt", "list.ckpt", "none.ckpt"):
        assert sentence(weights.load_checkpoint, tmp_path / name).startswith(str(tmp_path / name))


def test_hashes_of_files(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # 1.28 MB
    (tmp_path / "a").write_bytes(content)
    assert weights.file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
    window = content[0x100000 : 0x100000 + 0x10000]
    assert len(window) == 0x10000
    assert weights.legacy_hash(tmp_path / "a") == hashlib.sha256(window).hexdigest()[:8]


def test_hashes_of_tensors_can_be_computed_again_from_the_file(tmp_path: Path) -> None:
    tensors = TENSORS | {"large": torch.rand(600, 600)}
    words = {"ss_seed": "1", "modelspec.title": "x", "sshs_legacy_hash": "y"}
    weights.save_tensors(tmp_path / "a.safetensors", tensors, words)
    content = (tmp_path / "a.safetensors").read_bytes()
    behind = content[8 + int.from_bytes(content[:8], "little") :]
    assert weights.tensors_sha256(tensors) == hashlib.sha256(behind).hexdigest()
    save_file(tensors, tmp_path / "b.safetensors", metadata={"ss_seed": "1"})
    assert weights.tensors_legacy_hash(tensors, words) == weights.legacy_hash(tmp_path / "b.safetensors")


def test_the_content_hash_sees_names_types_shapes_and_values() -> None:
    same = [("b", TENSORS["b"]), ("a", TENSORS["a"])]
    base = weights.content_hash(same)
    assert base == weights.content_hash(TENSORS.items())
    others = [
        [("c", TENSORS["b"]), same[1]],
        [("b", TENSORS["b"].view(3, 2)), same[1]],
        [("b", TENSORS["b"].view(torch.int32)), same[1]],
        [("b", TENSORS["b"] + 1), same[1]],
        same[:1],
    ]
    assert len({base, *(weights.content_hash(other) for other in others)}) == 6
    assert weights.content_hash([("scalar", torch.tensor(1.0))])


def test_the_header_is_plain_json(tmp_path: Path) -> None:
    """AUTOMATIC1111 asks for a file whose header starts with `{"`."""
    weights.save_tensors(tmp_path / "a.safetensors", TENSORS, {"ss_seed": "1"})
    content = (tmp_path / "a.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert content[8:10] == b'{"'
    assert json.loads(content[8 : 8 + length])["__metadata__"] == {"ss_seed": "1"}
    assert load_file(tmp_path / "a.safetensors").keys() == TENSORS.keys()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_written_one_after_the_other(tmp_path: Path, dtype: torch.dtype) -> None:
    """In any shape, made when their turn comes; safetensors itself reads the file."""
    tensors = {"b": torch.randn(3, 5), "a": torch.tensor(2.0), "empty": torch.zeros(0), "turned": torch.randn(4, 2).T}
    made = []

    def make() -> torch.Tensor:
        made.append(1)
        return torch.full((2, 2), 7.0)

    given = {**tensors, "later": Later(torch.Size((2, 2)), make)}
    stream_tensors(tmp_path / "x.safetensors", given, dtype, {"word": "Wörter"})
    found = load_file(tmp_path / "x.safetensors")
    assert made == [1] and found.keys() == given.keys()
    for key, tensor in {**tensors, "later": torch.full((2, 2), 7.0)}.items():
        assert found[key].dtype == dtype and torch.equal(found[key], tensor.to(dtype))
    assert read_header(tmp_path / "x.safetensors")[0] == {"word": "Wörter"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_stream_that_breaks_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> torch.Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        stream_tensors(tmp_path / "x.safetensors", {"a": Later(torch.Size((1,)), fail)}, torch.float32)
    monkeypatch.setattr(weights.hashlib, "file_digest", lambda file, name: hashlib.sha256(b"other"))
    with pytest.raises(RuntimeError, match="differs from memory"):
        stream_tensors(tmp_path / "x.safetensors", {"a": torch.ones(3)}, torch.float32)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": 3},
        {"__metadata__": {"a": 1}},
        {"a": {"dtype": {}, "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
    ],
)
def test_headers_that_are_none(tmp_path: Path, header: dict[str, object]) -> None:
    content = json.dumps(header).encode()
    (tmp_path / "a.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(4))
    with pytest.raises(InputError, match="broken"):
        read_header(tmp_path / "a.safetensors")


def test_state_dicts_in_a_circle_have_an_end(tmp_path: Path) -> None:
    circle: dict[str, object] = {}
    circle["state_dict"] = circle
    torch.save(circle, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="within each other"):
        load_checkpoint(tmp_path / "a.ckpt")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.safetensors")
    for read in (read_header, load_tensors, load_checkpoint):
        with pytest.raises(InputError, match="pipe"):
            read(tmp_path / "a.safetensors")
