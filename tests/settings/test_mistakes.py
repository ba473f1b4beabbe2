"""Every kind of mistake, and the sentence that a person gets for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from library.errors import InputError
from library.settings import read_settings

Complaints = Callable[..., tuple[str, ...]]

# Words of a command line -> the one complaint about them, without its "command line: " if it starts with -.
ON_THE_COMMAND_LINE = [
    ("--network_dim abc", "-network_dim must be a whole number, not 'abc'."),
    ("--network_dim 1.5", "-network_dim must be a whole number, not '1.5'."),
    ("--network_dim", "-network_dim needs a value."),
    ("--network_dim 0", "-network_dim must be at least 1, not 0."),
    ("--learning_rate fast", "-learning_rate must be a number, not 'fast'."),
    ("--learning_rate nan", "-learning_rate must be a number, not 'nan'."),
    ("--learning_rate -1", "-learning_rate must be at least 0, not -1.0."),
    ("--caption_dropout_rate 2", "-caption_dropout_rate must be between 0 and 1, not 2.0."),
    ("--flip_aug maybe", "-flip_aug must be true or false, not 'maybe'."),
    (
        "--resolution 512x512",
        "must be one number of pixels or width,height, such as 512 or 512,768, not '512x512'.",
    ),
    ("--resolution 500", "-resolution must be made of multiples of 64, not 500; 512 is the nearest."),
    ("--resolution 0", "must be one number of pixels"),
    ("--lr_warmup_steps 1.5", "must be a whole number of steps, or a part of the run below 1, not '1.5'."),
    ("--optimizer_type AdamV", "SGDNesterov, not 'AdamV'; did you mean 'AdamW'?"),
    ("--lr_scheduler zigzag", "cosine_with_restarts or polynomial, not 'zigzag'."),
    ("--mixed_precision fp8", "-mixed_precision must be no, fp16 or bf16, not 'fp8'."),
    ("--max_token_length 77", "-max_token_length must be 75, 150 or 225, not 77."),
    ("--network_module lycoris.kohya", "-network_module must be lora, not 'lycoris.kohya'."),
    ("--save_model_as ckpt", "-save_model_as cannot be 'ckpt': it is a pickle"),
    ("--network_dimm 4", "-'network_dimm' is not a setting; did you mean 'network_dim'?"),
    ("--lr 4", "-'lr' is not a setting; did you mean 'learning_rate'?"),
    ("--qqqqq 4", "-'qqqqq' is not a setting; --help lists all of them."),
    ("--output_name a b", "-output_name takes one value, not 2: a b; put quotes around spaces."),
    (
        "--train_data_dir nowhere",
        "train_data_dir 'nowhere' does not exist; give an existing folder of pictures.",
    ),
    ("--train_data_dir file", "train_data_dir 'file' is a file; give the folder that the pictures are in."),
    ("--reg_data_dir nowhere", "reg_data_dir 'nowhere' does not exist; give an existing folder of pictures."),
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
    ("--network_args conv_dim 4", "network_args must be written key=value, not 'conv_dim'."),
    ("--max_bucket_reso 256", "max_bucket_reso must not be below the resolution, 512, but is 256; raise it"),
    ("--bucket_reso_steps 96", "bucket_reso_steps must be a multiple of 64, not 96."),
    ("--caption_extension txt", "caption_extension must begin with a dot, as in .txt, not 'txt'."),
    ("--output_name a/b", "output_name must be a plain name, not 'a/b'; set output_dir too."),
    ("--output_dir file", "output_dir 'file' is a file; give the name of a folder."),
]


@pytest.mark.parametrize(("line", "sentence"), ON_THE_COMMAND_LINE)
def test_mistakes_on_the_command_line(line: str, sentence: str, complaints: Complaints) -> None:
    Path("file").touch()
    told = complaints(*line.split())
    assert told, "nothing was refused"
    if sentence.startswith("-"):
        assert told[0].startswith("command line: " + sentence.removeprefix("-"))
    else:
        assert sentence in told[0]
    assert len(told) == (2 if line.startswith("--network_args") else 1)


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


def test_nothing_said_at_all(complaints: Complaints) -> None:
    model, pictures = complaints(complete=False)
    assert model.startswith("pretrained_model_name_or_path is missing; name a Stable Diffusion 1.x model")
    assert pictures.startswith("there are no pictures to train on; set train_data_dir")


def test_what_is_misspelt_is_not_called_missing_too(complaints: Complaints) -> None:
    told = complaints(
        "--pretrained_model_name_or_pat", "a/b", "--train_data_dirr", "pictures", complete=False
    )
    assert len(told) == 2 and all("did you mean" in sentence for sentence in told)


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


def test_nothing_is_written_after_a_refusal(complaints: Complaints) -> None:
    before = sorted(Path().rglob("*"))
    assert complaints("--network_dim", "abc", "--output_dir", "new")
    assert sorted(Path().rglob("*")) == before


def test_previews_without_prompts_are_fine(complaints: Complaints) -> None:
    assert complaints("--sample_every_n_epochs", "2") == ()
