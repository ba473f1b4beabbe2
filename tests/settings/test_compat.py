"""Files written for sd-scripts and lora-scripts: what runs unchanged, is refused, or is only remarked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from library.settings import Settings, compat
from library.settings.fields import FILE_OPTIONS, RULES

Read = Callable[..., Settings]
Complaints = Callable[..., tuple[str, ...]]

# The sections and keys that lora-scripts' own files have, with values of this test's.
LORA_SCRIPTS = """
[model_arguments]
v2 = false
v_parameterization = false
pretrained_model_name_or_path = "./model.ckpt"

[dataset_arguments]
train_data_dir = "./pictures"
reg_data_dir = ""
resolution = "512,640"
prior_loss_weight = 1

[additional_network_arguments]
network_dim = 24
network_alpha = 12
network_train_unet_only = false
network_train_text_encoder_only = false
network_module = "networks.lora"
network_args = []

[optimizer_arguments]
unet_lr = 2e-4
text_encoder_lr = 2e-5
optimizer_type = "AdamW8bit"
lr_scheduler = "cosine_with_restarts"
lr_warmup_steps = 0
lr_restart_cycles = 3

[training_arguments]
train_batch_size = 1
noise_offset = 0.0
keep_tokens = 0
min_bucket_reso = 256
max_bucket_reso = 1024
caption_extension = ".txt"
max_token_length = 225
seed = 1337
xformers = true
lowram = false
max_train_epochs = 10
resolution = "512,640"
clip_skip = 2
mixed_precision = "fp16"

[sample_prompt_arguments]
sample_sampler = "euler_a"
sample_every_n_epochs = 5

[saving_arguments]
output_name = "mine"
save_every_n_epochs = 1
save_n_epoch_ratio = 0
save_last_n_epochs = ""
save_state = false
save_model_as = "safetensors"
output_dir = "./output"
logging_dir = "./logs"
log_prefix = ""
log_with = "tensorboard"
save_precision = "fp16"

[others]
cache_latents = true
shuffle_caption = true
enable_bucket = true
multires_noise_iterations = 0
wandb_api_key = ""
"""

SD_SCRIPTS = """
pretrained_model_name_or_path = "./model.safetensors"
dataset_config = "data.toml"
output_dir = "out"
output_name = "mine"
network_module = "networks.lora"
network_dim = 16
network_alpha = 1
text_encoder_lr = [1e-5]
learning_rate = 1e-4
optimizer_type = "adamw8bit"
optimizer_args = ["weight_decay=0.1"]
lr_scheduler = "constant"
lr_warmup_steps = 0.05
sdpa = true
gradient_checkpointing = true
cache_latents_to_disk = true
persistent_data_loader_workers = true
max_data_loader_n_workers = 2
save_precision = "float"
min_snr_gamma = 0
loss_type = "l2"
huber_c = 0.1
huber_schedule = "snr"
"""

DATA = """
[general]
enable_bucket = true
caption_extension = ".txt"
[[datasets]]
resolution = 512
batch_size = 4
[[datasets.subsets]]
image_dir = "pictures"
class_tokens = "sks"
num_repeats = 2
cache_info = false
random_crop = false
"""


@pytest.fixture(autouse=True)
def _models() -> None:
    Path("model.ckpt").touch()
    Path("model.safetensors").touch()
    Path("data.toml").write_text(DATA)


def test_a_file_of_lora_scripts_runs_unchanged(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read(toml=LORA_SCRIPTS, complete=False)
    assert settings.lr_scheduler_num_cycles == 3
    assert (settings.network_module, settings.network_dim, settings.network_alpha) == ("lora", 24, 12.0)
    assert (settings.unet_lr, settings.text_encoder_lr) == (2e-4, 2e-5)
    assert settings.resolution == (512, 640) and settings.reg_data_dir is None
    assert settings.save_n_epoch_ratio is None and settings.save_last_n_epochs is None
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 1 and "section [training_arguments]: 'xformers' is not needed" in warnings[0]


def test_a_file_of_sd_scripts_runs_unchanged(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read(toml=SD_SCRIPTS, complete=False)
    (subset,) = settings.subset_tables()
    assert (subset.batch_size, subset.num_repeats) == (4, 2)
    assert settings.optimizer_type == "AdamW8bit" and settings.optimizer_args == ("weight_decay=0.1",)
    assert settings.text_encoder_lr == 1e-5 and settings.lr_warmup_steps == 0.05
    assert settings.save_precision == "fp32" and settings.min_snr_gamma is None
    warned = capsys.readouterr().err
    for name in ("sdpa", "cache_latents_to_disk", "persistent_data_loader_workers"):
        assert f"'{name}'" in warned
    assert warned.count("warning:") == 3


@pytest.mark.parametrize("name", sorted(compat.UNSUPPORTED))
def test_every_unsupported_option_is_refused_with_a_reason_unless_it_is_off(
    name: str, complaints: Complaints
) -> None:
    (sentence,) = complaints(toml=f"[a]\n{name} = 'thing'\n")
    assert sentence.startswith(f"run.toml, section [a]: '{name}' is not supported: ")
    for off in ("false", "''", "0", "[]", "'false'"):
        assert complaints(toml=f"{name} = {off}\n") == ()


@pytest.mark.parametrize("name", sorted(compat.WAYS | compat.COMPANIONS))
def test_every_way_of_computing_is_only_remarked(
    name: str, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(toml=f"{name} = 'thing'\n") == read()
    assert capsys.readouterr().err.startswith(f"warning: run.toml: '{name}' ")
    read(toml=f"{name} = false\n")
    assert capsys.readouterr().err == ""


def test_ways_of_computing_on_the_command_line(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    assert read("--xformers", "--no_lowram", "--dynamo_backend", "inductor") == read()
    warned = capsys.readouterr().err
    assert "xformers" in warned and "dynamo_backend" in warned and "lowram" not in warned


def test_options_that_may_only_say_what_is_done_anyway(read: Read, complaints: Complaints) -> None:
    assert read("--log_with", "tensorboard", "--model_type", "SDXL") == read()
    assert complaints("--log_with", "wandb") == (
        "command line: 'log_with' is supported only as tensorboard, not 'wandb'; leave it out.",
    )


def test_switches_for_optimizers(read: Read, complaints: Complaints) -> None:
    assert read("--use_8bit_adam").optimizer_type == "AdamW8bit"
    assert read("--use_lion_optimizer").optimizer_type == "Lion"
    assert read("--use_8bit_adam", "false").optimizer_type == "AdamW"
    (sentence,) = complaints(toml="use_8bit_adam = true\noptimizer_type = 'Lion'\n")
    assert "optimizer_type is 'Lion' here and 'AdamW8bit' in run.toml; keep one of them." in sentence


@pytest.mark.parametrize(
    "toml",
    [
        "cache_text_encoder_outputs = true\ncache_text_encoder_outputs_to_disk = true\n",
        "cache_text_encoder_outputs = true\ncache_text_encoder_outputs_to_disk = false\n",
        "cache_text_encoder_outputs_to_disk = true\n",
    ],
)
def test_text_outputs_are_kept_on_disk_by_either_word(
    toml: str, read: Read, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read(toml=f"{toml}network_train_unet_only = true\n").cache_text_encoder_outputs
    assert not read("--cache_text_encoder_outputs_to_disk", "false").cache_text_encoder_outputs
    assert capsys.readouterr().err == ""


def test_captions_as_sd_scripts_words_them(read: Read) -> None:
    words = "secondary_separator = ';;;'\nenable_wildcard = true\ntoken_warmup_min = 2\ntoken_warmup_step = 0.5\n"
    settings = read(toml=f"{words}weighted_captions = true\n")
    assert (settings.secondary_separator, settings.enable_wildcard) == (";;;", True)
    assert (settings.token_warmup_min, settings.token_warmup_step, settings.weighted_captions) == (2, 0.5, True)
    assert read().token_warmup_step == 0 and read().token_warmup_min == 1


def test_pictures_as_sd_scripts_words_them(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    words = "color_aug = true\nrandom_crop = true\nface_crop_aug_range = '2.0,4.0'\nmasked_loss = true\n"
    settings = read(toml=f"{words}resize_interpolation = 'cubic'\nconditioning_data_dir = 'pictures'\n")
    assert settings.color_aug and settings.random_crop and settings.masked_loss and not settings.alpha_mask
    assert settings.face_crop_aug_range == (2.0, 4.0) and settings.resize_interpolation == "bicubic"
    assert settings.conditioning_data_dir == Path("pictures")
    assert read("--face_crop_aug_range", "1", "2.5").face_crop_aug_range == (1.0, 2.5)
    for word in ("no_half_vae", "sdxl_no_half_vae"):
        assert read(f"--{word}").no_half_vae and not read(f"--{word}", "false").no_half_vae
    assert capsys.readouterr().err == ""


LOSS_AND_NOISE = """
loss_type = "huber"
huber_schedule = "exponential"
huber_c = 0.2
huber_scale = 1.5
debiased_estimation_loss = true
scale_v_pred_loss_like_noise_pred = true
v_pred_like_loss = 0.1
noise_offset = 0.05
noise_offset_random_strength = true
adaptive_noise_scale = -0.005
multires_noise_iterations = 6
multires_noise_discount = 0.2
ip_noise_gamma = 0.1
ip_noise_gamma_random_strength = true
scale_weight_norms = 1
lr_scheduler = "warmup_stable_decay"
lr_decay_steps = 0.2
lr_scheduler_min_lr_ratio = 0.1
optimizer_type = "prodigy"
optimizer_args = ["decouple=True", "d_coef=2"]
network_args = ["loraplus_lr_ratio=16"]
"""


def test_loss_noise_and_courses_as_sd_scripts_words_them(read: Read, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read(toml=LOSS_AND_NOISE)
    assert (settings.loss_type, settings.huber_schedule) == ("huber", "exponential")
    assert (settings.huber_c, settings.huber_scale) == (0.2, 1.5)
    assert settings.debiased_estimation_loss and settings.scale_v_pred_loss_like_noise_pred
    assert (settings.v_pred_like_loss, settings.adaptive_noise_scale, settings.ip_noise_gamma) == (0.1, -0.005, 0.1)
    assert (settings.multires_noise_iterations, settings.multires_noise_discount) == (6, 0.2)
    assert (settings.lr_scheduler, settings.lr_decay_steps) == ("warmup_stable_decay", 0.2)
    assert settings.lr_scheduler_min_lr_ratio == 0.1
    assert (settings.optimizer_type, settings.scale_weight_norms) == ("Prodigy", 1)
    assert capsys.readouterr().err == ""


def test_tables_do_not_overlap() -> None:
    settings = {*RULES, *FILE_OPTIONS} - {"config"}
    assert not settings & compat.KNOWN
    assert not compat.WAYS & compat.COMPANIONS
    assert not compat.UNSUPPORTED.keys() & (compat.WAYS | compat.COMPANIONS)
    assert set(compat.ALIASES.values()) <= set(RULES)
    assert set(compat.OTHER_WORDS.values()) <= set(RULES)
    assert not compat.OTHER_WORDS.keys() & settings


def test_what_pages_write_for_themselves_is_passed_over(read, complaints, capsys) -> None:
    toml = "epoch = 3\nnoise_offset_type = 'Original'\nwandb_run_name = 'last'\nmax_token_length = 255\n"
    settings = read(toml=toml)
    said = capsys.readouterr().err
    assert (settings.max_train_epochs, settings.max_token_length) == (None, 225)
    assert said.count("is kohya_ss' own and changes nothing") == 2 and "'wandb_run_name' changes nothing" in said
    assert read("--max_token_length", "255").max_token_length == 225
    assert "max_token_length must be 75, 150 or 225, not 256" in complaints("--max_token_length", "256")[0]
    assert compat.PAGES and not compat.PAGES & (compat.WAYS | compat.COMPANIONS | compat.UNSUPPORTED.keys())


def test_rates_of_loraplus_are_sent_to_their_place(complaints) -> None:
    [said] = complaints(toml="loraplus_unet_lr_ratio = 16\n")
    assert "write it into network_args, such as loraplus_lr_ratio=16" in said
    assert not complaints(toml="loraplus_unet_lr_ratio = 0\n")
