"""Values as people write them, and what is said of those that are none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from library.settings.convert import convert, is_unset, listed, shown
from library.settings.rules import Rule

Complaints = Callable[..., tuple[str, ...]]

# The words of a command line, and what is said of them.
MISTAKES = [
    ("--network_dim abc", "network_dim must be a whole number, not 'abc'."),
    ("--network_dim 1.5", "network_dim must be a whole number, not '1.5'."),
    ("--network_dim 0", "network_dim must be at least 1, not 0."),
    ("--learning_rate fast", "learning_rate must be a number, not 'fast'."),
    ("--learning_rate nan", "learning_rate must be a number, not 'nan'."),
    ("--learning_rate -1", "learning_rate must be at least 0, not -1.0."),
    ("--caption_dropout_rate 2", "caption_dropout_rate must be between 0 and 1, not 2.0."),
    ("--flip_aug maybe", "flip_aug must be true or false, not 'maybe'."),
    (
        "--resolution 512x512",
        "must be one number of pixels or width,height, such as 512 or 512,768, not '512x512'.",
    ),
    ("--resolution 500", "resolution must be made of multiples of 64, not 500; 512 is the nearest."),
    ("--resolution 0", "must be one number of pixels"),
    ("--lr_warmup_steps 1.5", "must be a whole number of steps, or a part of the run below 1, not '1.5'."),
    ("--optimizer_type torch.optim.", "SGDNesterov8bit, not 'torch.optim.'"),
    ("--optimizer_type 1.5", "SGDNesterov8bit, not '1.5'"),
    ("--optimizer_type AdamV", "SGDNesterov8bit, not 'AdamV'; did you mean 'AdamW'?"),
    ("--lr_scheduler adafactor", "lr_scheduler cannot be 'adafactor': it is the course of Adafactor's relative_step"),
    ("--lr_scheduler zigzag", "piecewise_constant or rex, not 'zigzag'."),
    ("--mixed_precision fp8", "mixed_precision must be no, fp16 or bf16, not 'fp8'."),
    ("--max_token_length 77", "max_token_length must be 75, 150 or 225, not 77."),
    ("--network_module lycoris", "boft or hypernetwork, not 'lycoris'."),
    ("--save_model_as ckpt", "save_model_as cannot be 'ckpt': it is a pickle"),
]


@pytest.mark.parametrize(("line", "sentence"), MISTAKES)
def test_mistakes(line: str, sentence: str, complaints: Complaints) -> None:
    (told,) = complaints(*line.split())
    assert told.startswith("command line: ") and sentence in told


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("network_dim = 'abc'", "network_dim must be a whole number, not 'abc'."),
        ("network_dim = true", "network_dim must be a whole number, not true."),
        ("network_dim = [1]", "network_dim must be a whole number, not [1]."),
        ("flip_aug = 2", "flip_aug must be true or false, not 2."),
        ("output_name = 5", "output_name must be text, not 5; put it in quotes."),
        ("train_data_dir = 5", "train_data_dir must be text, not 5; put it in quotes."),
        ("network_args = [1, 2]", "network_args must be a list of texts, not [1, 2]."),
        ("network_dimm = 4", "'network_dimm' is not a setting; did you mean 'network_dim'?"),
        ("config = 'a.toml'", "'config' is not supported: a configuration file cannot name another one."),
    ],
)
def test_mistakes_in_a_file_name_the_file_and_the_section(
    line: str, sentence: str, complaints: Complaints
) -> None:
    told = complaints(toml=f"[net]\n{line}\n", complete=False)
    assert told[0] == f"run.toml, section [net]: {sentence}"


@pytest.mark.parametrize(
    ("hint", "raw", "value"),
    [
        (int, "16", 16),
        (int, 16.0, 16),
        (int, str(2**63 - 1), 2**63 - 1),
        (float, 1, 1.0),
        (float | None, "1e-4", 1e-4),
        (float | None, [1e-5], 1e-5),
        (bool, 1, True),
        (bool, "Off", False),
        (Path | None, "a/./b", Path("a/b")),
        (tuple[str, ...], "a=1", ("a=1",)),
        (tuple[int, int], 512.0, (512, 512)),
        (tuple[int, int], ["64", "128"], (64, 128)),
        (tuple[float, float] | None, "1.5, 4", (1.5, 4.0)),
        (tuple[float, float] | None, [1, 1], (1.0, 1.0)),
        (tuple[float, float] | None, ["0.5", "2"], (0.5, 2.0)),
    ],
)
def test_values(hint: Any, raw: Any, value: Any) -> None:
    found = convert("name", hint, Rule("A setting."), raw)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("raw", ["2", "1,2,3", "4,1.5", "0,1", "-1,2", "a,b", [1], 3, True, "1,inf"])
def test_what_is_no_range(raw: Any) -> None:
    with pytest.raises(ValueError, match="^name must be two numbers above 0, the smaller one first, such as 1.5,4,"):
        convert("name", tuple[float, float] | None, Rule("A setting."), raw)


def test_aliases_stand_for_choices() -> None:
    rule = Rule("A setting.", choices=("One", "Two"), aliases={"Uno": "One"})
    assert [convert("name", str, rule, word) for word in ("one", "UNO", "Two")] == ["One", "One", "Two"]


@pytest.mark.parametrize(
    ("raw", "plain", "with_zero"),
    [("", True, True), (None, True, True), (0, False, True), ("0", False, True)],
)
def test_unset(raw: Any, plain: bool, with_zero: bool) -> None:
    assert is_unset(Rule(""), raw) is plain
    assert is_unset(Rule("", zero_is_unset=True), raw) is with_zero
    assert not is_unset(Rule("", zero_is_unset=True), False)


def test_words_for_people() -> None:
    assert [shown(value) for value in (True, "a", 5, [1, "b"])] == ["true", "'a'", "5", "[1, 'b']"]
    assert [listed(words) for words in (("a",), ("a", "b"), ("a", "b", 3))] == ["a", "a or b", "a, b or 3"]
