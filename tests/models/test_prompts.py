"""Prompts: lines, files, and what is said about mistakes."""

import json
from pathlib import Path

import pytest

from library.errors import InputError
from library.models.prompts import (
    FLAGS,
    KEYS,
    Prompt,
    parse_prompt_line,
    read_prompts,
)

DEFAULTS = Prompt("unused", "ugly", width=64, height=64, seed=5, steps=4, guidance=3.0, sampler="euler")


def sentences(call, *arguments) -> list[str]:
    """What the InputError of a call says."""
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return list(caught.value.sentences)


def test_a_line_with_every_flag() -> None:
    line = "a sks dog, on a hill --n blurry, dark --w 512 --h 768 --d 7 --s 25 --l 6.5 --ss Euler_A"
    expected = Prompt("a sks dog, on a hill", "blurry, dark", 512, 768, 7, 25, 6.5, "euler_a")
    assert parse_prompt_line(line, DEFAULTS) == expected


def test_a_line_without_flags_takes_the_defaults() -> None:
    assert parse_prompt_line("  a dog ", DEFAULTS) == Prompt("a dog", "ugly", 64, 64, 5, 4, 3.0, "euler")


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("--w 128", "text", ""),
        ("a well-known dog -- or two--three", "text", None),
        ("dog --n", "negative", ""),
        ("dog --L 2", "guidance", 2.0),
        ("dog --d 0", "seed", 0),
    ],
)
def test_odd_lines(line: str, field: str, value: object) -> None:
    if value is None:
        assert sentences(parse_prompt_line, line, DEFAULTS)
    else:
        assert getattr(parse_prompt_line(line, DEFAULTS), field) == value


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dog --q 3", "Unknown prompt flag '--q'"),
        ("dog --cn a.png", "Unknown prompt flag '--cn'"),
        ("dog --w big", "--w needs a whole number, but got 'big'."),
        ("dog --s", "--s needs a whole number"),
        ("dog --l nan", "guidance nan"),
        ("dog --l -1", "guidance -1.0"),
        ("dog --w 65", "width 65 is not a positive multiple of 8 pixels; 64 and 72 are the nearest."),
        ("dog --h 0", "height 0 is not"),
        ("dog --s 0", "steps 0 is not between 1 and 1000."),
        ("dog --d -1", "seed -1 is not"),
        ("dog --ss eulr", "Unknown sampler 'eulr'; did you mean 'euler'?"),
    ],
)
def test_a_bad_line_is_refused(line: str, words: str) -> None:
    assert words in sentences(parse_prompt_line, line, DEFAULTS)[0]


def test_all_mistakes_of_a_line_are_said_at_once() -> None:
    assert len(sentences(parse_prompt_line, "dog --q 3 --w 65 --s 0 --ss nothing", DEFAULTS)) == 4


def test_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# comment\n\na dog --d 1\r\n  a café\n", encoding="utf-8-sig")
    prompts = read_prompts(path, DEFAULTS)
    assert [(prompt.text, prompt.seed) for prompt in prompts] == [("a dog", 1), ("a café", 5)]


def test_a_toml_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.toml"
    path.write_text(
        '[prompt]\nwidth = 128\nscale = 7\n'
        '[[prompt.subset]]\nprompt = "a dog"\nnegative_prompt = "bad"\nseed = 3\n'
        '[[prompt.subset]]\nprompt = "a cat"\nwidth = 64\nsample_steps = 9\nsample_sampler = "ddim"\n'
    )
    dog, cat = read_prompts(path, DEFAULTS)
    assert dog == Prompt("a dog", "bad", 128, 64, 3, 4, 7.0, "euler")
    assert cat == Prompt("a cat", "ugly", 64, 64, 5, 9, 7.0, "ddim")


def test_a_toml_file_with_one_prompt(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text('[prompt]\nprompt = "a dog"\n')
    assert [prompt.text for prompt in read_prompts(path, DEFAULTS)] == ["a dog"]


def test_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"prompt": "a dog", "height": 128}, "a cat --d 2"]))
    dog, cat = read_prompts(path, DEFAULTS)
    assert (dog.height, cat.text, cat.seed) == (128, "a cat", 2)


def test_every_mistake_of_a_file_is_said_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("fine\ndog --w 1\n\ncat --x 2\n")
    first, second = sentences(read_prompts, path, DEFAULTS)
    assert first.startswith(f"{path}, line 2: width 1")
    assert second.startswith(f"{path}, line 4: Unknown prompt flag '--x'")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.toml", '[prompt]\nprompt = "x"\nsampel_steps = 3', "Unknown key 'sampel_steps'; did you mean"),
        ("a.toml", '[prompt]\nprompt = "x"\nseed = "3"', "seed needs a whole number, but got '3'."),
        ("a.toml", '[prompt]\nprompt = "x"\nseed = true', "seed needs a whole number, but got True."),
        ("a.toml", "[prompt]\nseed = 3", "the words are missing"),
        ("a.toml", 'prompts = ["x"]', "nothing else is read"),
        ("a.toml", '[prompt]\nsubset = "x"', "must be a list of tables"),
        ("a.toml", "[prompt", "cannot be read"),
        ("a.toml", "", "has no prompt in it"),
        ("a.json", "{}", "must be a list"),
        ("a.json", "[3]", "entry 1: a prompt is a text or a table"),
        ("a.json", "[", "cannot be read"),
        ("a.txt", "# nothing\n", "has no prompt in it"),
        ("a.csv", "dog", ".txt, .toml and .json"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path: Path, name: str, content: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    [sentence] = sentences(read_prompts, path, DEFAULTS)
    assert words in sentence
    assert sentence.startswith(str(path))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("café".encode("latin-1"))
    for name in ("latin.txt", "missing.txt"):
        assert "cannot be read" in sentences(read_prompts, tmp_path / name, DEFAULTS)[0]


def test_the_tables_name_every_field() -> None:
    fields = set(Prompt.__dataclass_fields__)
    assert {name for name, _ in KEYS.values()} == fields
    assert {name for name, _ in FLAGS.values()} == fields - {"text"}


def test_samplers_are_brought_to_the_name_of_the_table() -> None:
    assert Prompt("x", sampler="DPM++ 2M Karras").sampler == "dpmsolver++_karras"
    assert parse_prompt_line("dog --ss k_dpm_2_a", DEFAULTS).sampler == "dpm_2_a"
