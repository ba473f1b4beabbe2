"""DreamBooth's settings: what each needs of the others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from library.errors import InputError
from library.settings import read_settings
from library.settings.prior_fields import PriorFields

Complaints = Callable[..., tuple[str, ...]]

TABLE = "[[datasets]]\n[[datasets.subsets]]\nimage_dir = 'pictures'\n"
CLASS_TABLE = f"{TABLE}[[datasets.subsets]]\nimage_dir = 'class'\nis_reg = true\n"


def test_defaults() -> None:
    prior = PriorFields()
    assert prior.instance_prompt is prior.class_prompt is prior.prior_preservation is prior.num_class_images is None
    assert (prior.class_image_steps, prior.class_image_guidance) == (30, 7.5)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--num_class_images 5", "num_class_images needs class_prompt, the words for the class"),
        ("--prior_preservation self", "prior_preservation = self needs class_prompt"),
        ("--prior_preservation self --reg_data_dir pictures --class_prompt dog", "self needs no class pictures; leave"),
        ("--prior_preservation self --num_class_images 5 --class_prompt dog", "self needs no class pictures; leave"),
        ("--prior_preservation pictures", "prior_preservation = pictures has none; set reg_data_dir, or"),
        ("--class_prompt dog", "class_prompt changes nothing by itself; set instance_prompt, num_class_images or"),
        ("--num_class_images 5 --class_prompt dog --reg_data_dir file", "reg_data_dir 'file' is a file"),
        ("--prior_preservation distill", "prior_preservation = distill has none; set reg_data_dir, or"),
        ("--prior_preservation mirror", "prior_preservation must be pictures, distill or self, not 'mirror'"),
        (
            "--prior_preservation self --class_prompt {dog|hound} --enable_wildcard",
            "prior_preservation = self reads class_prompt as it stands; leave its choices",
        ),
        ("--class_image_steps 0", "class_image_steps must be between 1 and 1000, not 0"),
        ("--class_data_dir pictures", "did you mean 'reg_data_dir'"),
    ],
)
def test_mistakes(line: str, sentence: str, complaints: Complaints) -> None:
    Path("file").touch()
    (told,) = complaints(*line.split())
    assert sentence in told


def test_tables(complaints: Complaints) -> None:
    Path("class").mkdir()
    words = ("--pretrained_model_name_or_path", "a/b", "--class_prompt", "dog")
    (told,) = complaints(*words, "--num_class_images=5", toml=TABLE, complete=False)
    assert told.startswith("num_class_images cannot be set with [[datasets]] tables")
    (told,) = complaints(*words, "--prior_preservation=self", toml=CLASS_TABLE, complete=False)
    assert "subsets with is_reg" in told
    (told,) = complaints(*words, "--prior_preservation=pictures", toml=TABLE, complete=False)
    assert "has none" in told
    assert complaints(*words, "--prior_preservation=pictures", toml=CLASS_TABLE, complete=False) == ()


@pytest.mark.parametrize(
    "line",
    [
        "--num_class_images 5 --class_prompt dog",
        "--num_class_images 5 --class_prompt dog --reg_data_dir new/folder --prior_preservation pictures",
        "--num_class_images 0 --reg_data_dir pictures",
        "--prior_preservation self --class_prompt dog",
        "--prior_preservation self --class_prompt {dog}",
        "--num_class_images 5 --class_prompt {dog|hound} --enable_wildcard",
        "--instance_prompt sks --class_prompt dog",
        "--instance_prompt sks",
        "--class_prompt dog --reg_data_dir pictures",
    ],
)
def test_what_goes_together(line: str, complaints: Complaints) -> None:
    assert complaints(*line.split()) == ()


def test_weights_that_move_in_backward_move_once() -> None:
    words = ["--pretrained_model_name_or_path=a/b", "--train_data_dir=pictures", "--fused_backward_pass"]
    words += ["--max_grad_norm=0", "--class_prompt=dog"]
    read_settings([*words, "--instance_prompt=sks dog"], program="train_dreambooth")
    with pytest.raises(InputError, match="fused_backward_pass moves the weights twice in a step where prior_preserv"):
        read_settings([*words, "--prior_preservation=self"], program="train_dreambooth")
