"""Wrong input of DreamBooth and of new words: status 2, one clear sentence, no traceback, and nothing written."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train_dreambooth
from library.weights import read_header
from tests.program.test_refusals import refuse
from tests.runs import WHOLE, Bench
from tests.toy_families import write_toy_file
from tests.toys import write_toy_sd1

PROMPTS = {"instance_prompt": "a photo of sks thing", "class_prompt": "a photo of thing"}
WORD = {"token_string": "<toy>", "init_word": "thing"}
LORA = {"network_module": "lora", "network_dim": 2, "network_alpha": 2}

# Changed settings of train_dreambooth.py, and the words that the one sentence must have.
WRONG = {
    "class folder is empty": ({"reg_data_dir": "empty"}, ["no pictures found in empty", "Set num_class_images"]),
    "class folder is a file": ({"reg_data_dir": "file", **PROMPTS, "num_class_images": 2}, ["'file' is a file"]),
    "class folder is gone": ({"reg_data_dir": "gone"}, ["'gone' does not exist", "set num_class_images"]),
    "nothing to draw": ({"num_class_images": 2}, ["num_class_images needs class_prompt"]),
    "no instance": ({"class_prompt": "a thing"}, ["class_prompt changes nothing by itself", "instance_prompt"]),
    "the same prompt twice": (
        {"instance_prompt": "a thing", "class_prompt": "A thing.", "num_class_images": 2, "reg_data_dir": "new"},
        ["instance_prompt 'a thing' has no word beyond class_prompt 'A thing.'"],
    ),
    "no identifier in captions": (
        {**PROMPTS, "instance_prompt": "a photo of zwx thing", "num_class_images": 2, "reg_data_dir": "new"},
        ["identifier 'zwx'", "none of the 4 captions", "trigger_words"],
    ),
    "no new word in captions": (
        {**LORA, **WORD, "class_prompt": "a thing", "num_class_images": 2, "reg_data_dir": "new"},
        ["token_string '<toy>' is in none of the 4 captions"],
    ),
    "another family": ({"sdxl": True}, ["sdxl is true, but", "Stable Diffusion 1.x"]),
    "a second text encoder": (
        {"train_text_encoder": True, "learning_rate_te2": 1e-6},
        ["learning_rate_te2 is the rate of a second text encoder", "Stable Diffusion 1.x model, has one"],
    ),
    "no text encoder that learns": ({"learning_rate_te1": 1e-6}, ["learning_rate_te1", "set train_text_encoder"]),
    "nothing to stop": ({"stop_text_encoder_training": 1}, ["has nothing to stop", "train_text_encoder"]),
    "no such average": ({"ema": True, "ema_decay": 1.5}, ["ema_decay must be between 0 and 0.999999, not 1.5"]),
    "no such layout": ({"save_model_as": "onnx"}, ["save_model_as must be safetensors, diffusers or both, not 'onnx'"]),
    "an adapter's setting": ({"network_dim": 4}, ["network_dim belongs to the training of an adapter"]),
    "a setting of all weights": ({**LORA, "train_text_encoder": True}, ["train_text_encoder belongs to the training"]),
    "a new word and all weights": (WORD, ["token_string cannot be set where all weights learn"]),
    "an output folder in a file": ({"output_dir": "file/out"}, ["output_dir 'file/out' cannot be made, because"]),
    "curves in a file": ({"logging_dir": "file/logs"}, ["logging_dir 'file/logs' cannot be made"]),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder and a file, where the programs are started."""
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()


@pytest.mark.parametrize("kind", WRONG)
def test_one_wrong_setting(bench: Bench, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    changes, words = WRONG[kind]
    (sentence,) = refuse(bench, capsys, bench.argv(**{**WHOLE, **changes}), train_dreambooth.main)
    assert [word for word in words if word not in sentence] == []
    assert not Path("new").exists()


NEW_WORDS = {
    "known": ({"token_string": "dog"}, ["'dog' cannot be a new word, because the model's vocabulary has it"]),
    "several words": ({"token_string": "my dog"}, ["'my dog' cannot be a new word: leave out blanks"]),
    "no vectors": ({"num_vectors_per_token": 0}, ["num_vectors_per_token must be between 1 and 75, not 0"]),
    "half a vector": ({"num_vectors_per_token": 1.5}, ["num_vectors_per_token", "whole number", "1.5"]),
    "begins as itself": ({"init_word": "a <TOY>"}, ["init_word 'a <TOY>' has the new word <toy> in it"]),
    "begins as nothing": ({"init_word": " ", "caption_prefix": "<toy>"}, ["init_word ' ' has no tokens"]),
    "a second text encoder": ({"learning_rate_te2": 1e-6}, ["learning_rate_te2", "has one"]),
    "stops before it begins": (
        {"caption_prefix": "<toy>", "ti_steps": 2, "stop_text_encoder_training": 2},
        ["stop_text_encoder_training = 2 comes before the text encoder's first step"],
    ),
}


@pytest.mark.parametrize("kind", NEW_WORDS)
def test_new_words(bench: Bench, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    changes, words = NEW_WORDS[kind]
    (sentence,) = refuse(bench, capsys, bench.argv(**{**WORD, **changes}))
    assert [word for word in words if word not in sentence] == []


class Harmful:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch harm",)


def write_model(kind: str) -> Path:
    """A base model that cannot be trained."""
    path = Path("model.ckpt" if kind in ("code", "nothing") else "model.safetensors")
    if kind == "code":
        torch.save({"state_dict": {"weights": Harmful()}}, path)
    elif kind == "nothing":
        path.touch()
    elif kind == "an inpainting folder":
        return write_toy_sd1(Path("model"), in_channels=9)
    else:
        write_toy_file(path, "sd1")
    if kind == "half of one":
        os.truncate(path, path.stat().st_size // 2)
    elif kind == "an inpainting file":
        tensors, metadata = load_file(path), read_header(path)[0]
        name = "model.diffusion_model.input_blocks.0.0.weight"
        save_file({**tensors, name: torch.zeros(len(tensors[name]), 9, 3, 3)}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("code", "model.ckpt: the file is broken, or holds more than weights (posix.system) and could run code"),
        ("nothing", "model.ckpt: the file is empty."),
        ("half of one", "model.safetensors: the file is cut short"),
        ("an inpainting folder", "whose UNet takes 9 channels instead of 4 (it is for inpainting)"),
        ("an inpainting file", "whose UNet takes 9 channels instead of 4 (it is for inpainting)"),
    ],
)
def test_base_models(bench: Bench, capsys: pytest.CaptureFixture[str], kind: str, words: str) -> None:
    argv = bench.argv(**WHOLE, pretrained_model_name_or_path=write_model(kind))
    (sentence,) = refuse(bench, capsys, argv, train_dreambooth.main)
    assert words in sentence and not Path("harm").exists()


def test_a_model_is_not_put_into_its_own_base(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_toy_file(Path("toy-000002.safetensors"), "sd1")
    argv = bench.argv(**WHOLE, pretrained_model_name_or_path=base, output_dir=".", save_every_n_epochs=1)
    (sentence,) = refuse(bench, capsys, argv, train_dreambooth.main)
    assert "would replace the base model; choose another name" in sentence
