"""What only shows when settings are seen together, and files that are not there."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from library.settings.checks import looks_like_path

Complaints = Callable[..., tuple[str, ...]]

# The words of a command line, and what is said of them.
MISTAKES = [
    (
        "--train_data_dir nowhere",
        "train_data_dir 'nowhere' does not exist; give an existing folder of pictures.",
    ),
    ("--train_data_dir file", "train_data_dir 'file' is a file; give the folder that the pictures are in."),
    (
        "--reg_data_dir nowhere",
        "reg_data_dir 'nowhere' does not exist; give an existing folder of pictures, or set num_class_images to have",
    ),
    ("--pretrained_model_name_or_path ./no", "pretrained_model_name_or_path './no' does not exist; give"),
    (
        "--pretrained_model_name_or_path m.safetensors",
        "pretrained_model_name_or_path 'm.safetensors' does not exist",
    ),
    ("--pretrained_model_name_or_path C:\\models\\m", "does not exist; give an existing folder or file"),
    ("--pretrained_model_name_or_path a/b/c", "pretrained_model_name_or_path 'a/b/c' does not exist"),
    ("--vae ~/no.ckpt", "no.ckpt' does not exist; give"),
    ("--sample_prompts no.txt", "sample_prompts 'no.txt' does not exist; give an existing file."),
    (
        "--network_weights no.safetensors",
        "network_weights 'no.safetensors' does not exist; give an existing file.",
    ),
    (
        "--resume no-state",
        "resume 'no-state' does not exist; give a state folder that a run has saved, or auto.",
    ),
    ("--network_train_unet_only --network_train_text_encoder_only", "cannot both be set; choose one"),
    ("--learning_rate 0", "every learning rate is 0, so nothing would be learned; raise learning_rate."),
    ("--unet_lr 0 --text_encoder_lr 0", "every learning rate is 0"),
    ("--unet_lr 0 --network_train_unet_only", "every learning rate is 0"),
    (
        "--lr_warmup_steps 2000",
        "lr_warmup_steps must not be longer than the run, max_train_steps = 1600, but is 2000",
    ),
    ("--dim_from_weights", "dim_from_weights needs a file to take the rank from; set network_weights."),
    (
        "--min_timestep 500 --max_timestep 400",
        "min_timestep must be below max_timestep, but 500 is not below 400.",
    ),
    ("--max_bucket_reso 256", "max_bucket_reso must not be below the resolution, 512, but is 256; raise it"),
    ("--bucket_reso_steps 96", "bucket_reso_steps must be a multiple of 64, not 96."),
    ("--caption_extension txt", "caption_extension must begin with a dot, as in .txt, not 'txt'."),
    ("--conditioning_data_dir no", "conditioning_data_dir 'no' does not exist; give an existing folder of pictures."),
    ("--face_crop_aug_range 3,2", "face_crop_aug_range must be two numbers above 0, the smaller one first"),
    ("--in_json no.json", "in_json 'no.json' does not exist; give a JSON or JSONL file that names pictures."),
    ("--cache_text_encoder_outputs", "because what it makes of a caption changes; set network_train_unet_only or"),
    ("--cache_text_encoder_outputs_to_disk --text_encoder_lr 1e-5", "cannot be set while the text encoder learns"),
    ("--output_name a/b", "output_name must be a plain name, not 'a/b'; set output_dir too."),
    ("--output_dir file", "output_dir 'file' is a file; give the name of a folder."),
    ("--output_dir file/out", "output_dir 'file/out' cannot be made, because 'file' is a file; give the name of anot"),
    ("--logging_dir file/a/b", "logging_dir 'file/a/b' cannot be made, because 'file' is a file"),
    ("--cache_dir file/cache", "cache_dir 'file/cache' cannot be made, because 'file' is a file"),
    ("--num_class_images 2 --class_prompt x --reg_data_dir file/x", "reg_data_dir 'file/x' cannot be made, because"),
]


@pytest.mark.parametrize(("line", "sentence"), MISTAKES)
def test_mistakes(line: str, sentence: str, complaints: Complaints) -> None:
    Path("file").touch()
    (told,) = complaints(*line.split())
    assert told.startswith(sentence) or sentence in told


def test_every_wrong_word_of_a_list_is_told(complaints: Complaints) -> None:
    assert complaints("--network_args", "conv_dim", "rs_lora=1", "4") == (
        "network_args must be written key=value, not 'conv_dim'.",
        "network_args must be written key=value, not '4'.",
    )


@pytest.mark.parametrize("name", ["./a", "/a", "~/a", "a.ckpt", "A.SAFETENSORS", "a\\b", "a/b/c", "a/b/"])
def test_names_that_can_only_be_paths(name: str) -> None:
    assert looks_like_path(name)


@pytest.mark.parametrize("name", ["someone/sd15", "sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5"])
def test_names_that_may_be_on_the_hub(name: str) -> None:
    assert not looks_like_path(name)


def test_nothing_said_at_all(complaints: Complaints) -> None:
    model, pictures = complaints(complete=False)
    assert model.startswith("pretrained_model_name_or_path is missing; name a Stable Diffusion model")
    assert pictures.startswith("there are no pictures to train on; set train_data_dir")


def test_what_is_misspelt_is_not_called_missing_too(complaints: Complaints) -> None:
    told = complaints(
        "--pretrained_model_name_or_pat", "a/b", "--train_data_dirr", "pictures", complete=False
    )
    assert len(told) == 2 and all("did you mean" in sentence for sentence in told)


def test_nothing_is_written_after_a_refusal(complaints: Complaints) -> None:
    before = sorted(Path().rglob("*"))
    assert complaints("--network_dim", "abc", "--output_dir", "new")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("frozen", ["--network_train_unet_only", "--text_encoder_lr 0"])
@pytest.mark.parametrize("varied", ["", "--shuffle_caption --caption_dropout_rate 0.1 --enable_wildcard"])
def test_outputs_of_frozen_text_encoders_may_be_kept(frozen: str, varied: str, complaints: Complaints) -> None:
    words = f"--cache_text_encoder_outputs {frozen} {varied}".split()
    assert complaints(*words) == ()


def test_a_file_of_captions_is_enough(complaints: Complaints) -> None:
    Path("captions.json").touch()
    words = ["--pretrained_model_name_or_path", "a/b", "--in_json", "captions.json"]
    assert complaints(*words, complete=False) == ()
    assert complaints(*words[:2], complete=False) != ()


def test_previews_without_prompts_are_fine(complaints: Complaints) -> None:
    assert complaints("--sample_every_n_epochs", "2") == ()


def test_folders_of_other_people(complaints: Complaints, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have every right."""
    Path("theirs/inside").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).resolve() != Path("theirs").resolve())
    (told,) = complaints("--output_dir", "theirs/new/out")
    assert told.startswith("output_dir 'theirs/new/out' cannot be written, as 'theirs' is not yours to write into;")
    assert complaints("--output_dir", "theirs/inside/out", "--logging_dir", "mine") == ()
