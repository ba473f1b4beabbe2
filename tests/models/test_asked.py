"""LoRAs, words and columns as people name them."""

import argparse
from pathlib import Path

import pytest
from PIL import Image

from library.models.asked import Column, Lora, Word, columns_of, lay_out, read_lora, read_strengths, read_word, worn_in
from library.models.prompts import Prompt


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [("a.safetensors", "a.safetensors", None), ("a.pt:0.8", "a.pt", 0.8), ("a:-1", "a", -1.0),
     ("C:/a.pt", "C:/a.pt", None), ("C:/a.pt:2", "C:/a.pt", 2.0)],
)  # fmt: skip
def test_a_lora_with_its_strength(text: str, path: str, strength: float | None) -> None:
    assert read_lora(text) == Lora(Path(path), strength)


def test_a_colon_in_a_file_name(tmp_path: Path) -> None:
    odd = tmp_path / "a:1"
    odd.touch()
    assert read_lora(str(odd)) == Lora(odd)
    assert read_lora(f"{odd}:0.5") == Lora(odd, 0.5)


def test_a_strength_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    with pytest.raises(argparse.ArgumentTypeError, match="the strength 'much' of .*a.pt is no number"):
        read_lora(f"{tmp_path / 'a.pt'}:much")
    with pytest.raises(argparse.ArgumentTypeError, match="the strength '1:in=0' of .*a.pt is no number"):
        read_lora(f"{tmp_path / 'a.pt'}:1:in=0")
    assert read_strengths("0,-.5,1") == (0, -0.5, 1)
    with pytest.raises(argparse.ArgumentTypeError, match="numbers with commas between them"):
        read_strengths("1,inf")


def test_a_word_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    assert read_word(f"{tmp_path / 'a.pt'}:<x>") == Word(tmp_path / "a.pt", "<x>")
    assert read_word(str(tmp_path / "a.pt")) == Word(tmp_path / "a.pt")


def test_columns() -> None:
    one, half = Lora(Path("one.pt")), Lora(Path("half.pt"), 0.5)
    assert columns_of([one], (0.0, 1.0), False) == [
        Column("strength 0", (Lora(Path("one.pt"), 0.0),)), Column("strength 1", (Lora(Path("one.pt"), 1.0),)),
    ]  # fmt: skip
    assert [column.title for column in columns_of([one, half], None, True)] == ["base model", "one", "half : 0.5"]
    assert columns_of([one, half], None, False) == [Column("one + half : 0.5", (one, half))]
    assert columns_of([], None, False) == [Column("base model")]


def test_what_a_prompt_names_goes_before_the_column() -> None:
    one, two = Lora(Path("one.pt"), 0.9), Lora(Path("two.pt"))
    tagged = {"one": Path("one.pt"), "more": Path("x/more.pt")}
    worn = worn_in(Prompt("a <lora:more:2> <lora:one:0.1>"), Column("", (one, two)), tagged)
    assert worn == (Lora(Path("x/more.pt"), 2.0), Lora(Path("one.pt"), 0.1), two)
    assert worn_in(Prompt("a"), Column("", (one,)), {}) == (one,)


def test_labels_say_seeds_where_they_do_not_stand_across() -> None:
    prompts = [Prompt("x", seed=seed) for seed in (1, 2)]
    pictures = [Image.new("RGB", (64, 64))] * 4
    columns = [Column("base model"), Column("a")]
    two_by_two = lay_out(pictures, columns, prompts, 2)
    one_by_two = lay_out(pictures[:2], columns[:1], prompts, 2)
    assert two_by_two.height > 2 * 256 > one_by_two.height
