"""Words and files taken apart, and those that cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from library.errors import InputError
from library.settings import read_settings
from library.settings.sources import Given, read_command_line, walk_sections

Complaints = Callable[..., tuple[str, ...]]

# The words of a command line, and what is said of them.
MISTAKES = [
    ("--network_dim", "network_dim needs a value."),
    ("--network_dimm 4", "'network_dimm' is not a setting; did you mean 'network_dim'?"),
    ("--lr 4", "'lr' is not a setting; did you mean 'learning_rate'?"),
    ("--qqqqq 4", "'qqqqq' is not a setting; --help lists all of them."),
    ("--output_name a b", "output_name takes one value, not 2: a b; put quotes around spaces."),
]


@pytest.mark.parametrize(("line", "sentence"), MISTAKES)
def test_mistakes(line: str, sentence: str, complaints: Complaints) -> None:
    (told,) = complaints(*line.split())
    assert told.startswith("command line: " + sentence)


def test_words_of_a_command_line() -> None:
    given, complaints = read_command_line(["--seed=3", "--xformers", "--caption_prefix", "", "--no_flip_aug"])
    values = [("seed", "3"), ("xformers", True), ("caption_prefix", ""), ("flip_aug", False)]
    assert given == [Given(name, raw, "command line") for name, raw in values]
    assert complaints == []


def test_keys_know_their_section() -> None:
    document = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}
    assert list(walk_sections(document, Path("x.toml"))) == [
        Given("a", 1, "x.toml"),
        Given("c", 2, "x.toml, section [b]"),
        Given("e", 3, "x.toml, section [b.d]"),
    ]


def test_words_that_belong_to_nothing() -> None:
    with pytest.raises(
        InputError, match="command line: 'run.toml' belongs to no option; settings are written"
    ):
        read_settings(["run.toml"])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"a = \n", "run.toml is not valid TOML: Invalid value"),
        (b'train_data_dir = "C:\\Users\\me"\n', "write paths with / or in single quotes."),
        (b"caption_prefix = 'caf\xe9'\n", "run.toml is not UTF-8 text; save it as UTF-8."),
    ],
)
def test_files_that_cannot_be_read(text: bytes, sentence: str, complaints: Complaints) -> None:
    Path("run.toml").write_bytes(text)
    assert sentence in complaints("--config", "run.toml")[0]


def test_a_config_file_that_is_not_there(complaints: Complaints) -> None:
    assert complaints("--config", "gone.toml") == (
        "the file 'gone.toml' does not exist; check its name, which is taken from the folder you are in.",
    )
