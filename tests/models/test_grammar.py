"""Tags of LoRAs and AND in prompts, by cases derived by hand."""

from pathlib import Path

import pytest

from library.errors import InputError
from library.models.grammar import Tag, find_tagged, parts_of, read_tags


@pytest.mark.parametrize(
    ("text", "plain", "tags"),
    [
        ("a dog", "a dog", []),
        ("a <lora:sks:0.8> dog", "a  dog", [Tag("sks", 0.8)]),
        ("<lora:a b_c-1><LORA:x: -.5 >dog", "dog", [Tag("a b_c-1", 1.0), Tag("x", -0.5)]),
        ("<lyco:old:1>", "", [Tag("old")]),
        ("a < b <toy> <hyper:x:1>", "a < b <toy> <hyper:x:1>", []),
        ("a <hypernet:x:0.5>", "a ", [Tag("x", 0.5)]),
    ],
)
def test_tags(text: str, plain: str, tags: list[Tag]) -> None:
    assert read_tags(text) == (plain, tags)


@pytest.mark.parametrize("tag", ["<lora:>", "<lora:x:much>", "<lora:x:1:0.5>"])
def test_bad_tags(tag: str) -> None:
    with pytest.raises(InputError, match="write <lora:NAME:0.8>, with one number"):
        read_tags(f"a {tag} dog")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a cat", [("a cat", 1.0)]),
        ("scale 3:2", [("scale 3:2", 1.0)]),
        ("a cat AND a hat", [("a cat", 1.0), ("a hat", 1.0)]),
        ("a cat :1.2 AND a hat AND snow: -0.5", [("a cat", 1.2), ("a hat", 1.0), ("snow", -0.5)]),
        ("(a:1.1) AND b:.5", [("(a:1.1)", 1.0), ("b", 0.5)]),
        ("LAND and SAND", [("LAND and SAND", 1.0)]),
        ("a\nAND\nb", [("a", 1.0), ("b", 1.0)]),
        ("AND", [("", 1.0), ("", 1.0)]),
    ],
)
def test_parts(text: str, parts: list[tuple[str, float]]) -> None:
    assert parts_of(text) == parts


def test_files_of_tags(tmp_path: Path) -> None:
    for name in ("a.safetensors", "more/b.pt", "more/c.safetensors", "c.safetensors", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    given = tmp_path / "else" / "a.safetensors"
    assert find_tagged([Tag("a"), Tag("b"), Tag("b", 0.5)], tmp_path, []) == {
        "a": tmp_path / "a.safetensors",
        "b": tmp_path / "more" / "b.pt",
    }
    assert find_tagged([Tag("a")], tmp_path, [given]) == {"a": given}
    with pytest.raises(InputError) as caught:
        find_tagged([Tag("c"), Tag("d")], tmp_path, [])
    first, second = caught.value.sentences
    assert "<lora:c> in a prompt may be" in first and "rename one" in first
    assert f"<lora:d> in a prompt: no file of that name is in {tmp_path}" in second
    with pytest.raises(InputError, match="give --lora_dir, the folder of its file"):
        find_tagged([Tag("a")], None, [])
