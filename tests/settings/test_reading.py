"""Settings from words and files: what beats what, how values are written, and where the door is."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from library.errors import InputError
from library.settings import Settings, read_settings

Read = Callable[..., Settings]
Complaints = Callable[..., tuple[str, ...]]


def test_defaults(read: Read) -> None:
    settings = read()
    assert settings.network_dim == 16 and settings.network_alpha == 16.0
    assert settings.learning_rate == 1e-4 and settings.unet_lr is None
    assert settings.resolution == (512, 512) and settings.caption_extension == ".txt"
    assert settings.train_data_dir == Path("pictures") and settings.datasets == ()
    assert settings.seed == 42 and settings.max_train_steps == 1600 and settings.max_train_epochs is None


def test_settings_are_frozen(read: Read) -> None:
    with pytest.raises(FrozenInstanceError):
        read().seed = 1  # type: ignore[misc]


def test_command_line_beats_file_beats_default(read: Read) -> None:
    toml = "network_dim = 4\nnetwork_alpha = 2\n"
    settings = read("--network_dim", "8", toml=toml)
    assert (settings.network_dim, settings.network_alpha, settings.seed) == (8, 2.0, 42)


def test_an_empty_word_takes_back_what_the_file_says(read: Read) -> None:
    assert read("--caption_prefix", "", toml='caption_prefix = "sks"').caption_prefix is None
    assert read(toml='caption_prefix = "sks"').caption_prefix == "sks"


def test_sections_group_for_the_reader_only(read: Read) -> None:
    toml = "[anything]\nseed = 7\n[a.b.c]\nnetwork_dim = 2\n[general]\nflip_aug = true\n"
    settings = read(toml=toml)
    assert (settings.seed, settings.network_dim, settings.flip_aug) == (7, 2, True)


def test_one_setting_in_two_sections(read: Read, complaints: Complaints) -> None:
    assert read(toml="[a]\nseed = 7\n[b]\nseed = 7\n").seed == 7
    (sentence,) = complaints(toml="[a]\nseed = 7\n[b]\nseed = 8\n")
    assert (
        sentence == "run.toml, section [b]: seed is 8 here and 7 in run.toml, section [a]; keep one of them."
    )


@pytest.mark.parametrize("name", ["--config", "--config_file"])
@pytest.mark.parametrize("file", ["mine.toml", "mine"])
def test_names_of_the_config_file(name: str, file: str) -> None:
    text = "pretrained_model_name_or_path = 'a/b'\ntrain_data_dir = 'pictures'\nseed = 3"
    Path("mine.toml").write_text(text)
    assert read_settings([name, file]).seed == 3
    assert read_settings([f"{name}={file}"]).seed == 3


def test_arguments_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--pretrained_model_name_or_path", "a/b", "--train_data_dir", "pictures", "--seed", "9"]
    monkeypatch.setattr(sys, "argv", ["train_network.py", *words])
    assert read_settings().seed == 9


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--enable_bucket"], True),
        (["--no_enable_bucket"], False),
        (["--enable_bucket", "true"], True),
        (["--enable_bucket", "False"], False),
        (["--enable_bucket=0"], False),
        (["--enable_bucket", "yes"], True),
    ],
)
def test_switches(words: list[str], value: bool, read: Read) -> None:
    assert read(*words).enable_bucket is value


def test_a_switch_whose_own_name_begins_with_no(read: Read) -> None:
    assert read("--no_metadata").no_metadata is True
    assert read("--no_no_metadata").no_metadata is False


@pytest.mark.parametrize(
    ("raw", "value"),
    [("512", (512, 512)), ("'512'", (512, 512)), ("'512,768'", (512, 768)), ("[512, 768]", (512, 768))],
)
def test_resolution_in_toml(raw: str, value: tuple[int, int], read: Read) -> None:
    assert read(toml=f"resolution = {raw}").resolution == value


@pytest.mark.parametrize("words", [["512,768"], ["512", "768"], ["512, 768"]])
def test_resolution_on_the_command_line(words: list[str], read: Read) -> None:
    assert read("--resolution", *words).resolution == (512, 768)


@pytest.mark.parametrize(("raw", "value"), [("100", 100), ("0.1", 0.1), ("50.0", 50), ("0", 0)])
def test_warmup_in_steps_or_as_a_part(raw: str, value: float, read: Read) -> None:
    found = read("--lr_warmup_steps", raw).lr_warmup_steps
    assert found == value and type(found) is type(value)


def test_lists(read: Read) -> None:
    assert read("--optimizer_args", "weight_decay=0.1", "eps=1e-6").optimizer_args == (
        "weight_decay=0.1",
        "eps=1e-6",
    )
    assert read(toml="optimizer_args = ['a=1']").optimizer_args == ("a=1",)
    assert read(toml="optimizer_args = []").optimizer_args == ()


def test_names_are_found_whatever_their_case(read: Read) -> None:
    assert read("--optimizer_type", "adamw8BIT").optimizer_type == "AdamW8bit"
    assert read("--save_precision", "float").save_precision == "fp32"
    assert read("--sample_sampler", "k_euler_a").sample_sampler == "euler_a"


@pytest.mark.parametrize(
    "name",
    [
        "save_n_epoch_ratio",
        "save_every_n_epochs",
        "sample_every_n_steps",
        "min_snr_gamma",
        "max_train_epochs",
    ],
)
def test_zero_means_unset_where_it_makes_no_sense(name: str, read: Read) -> None:
    assert getattr(read(toml=f"{name} = 0"), name) is None


def test_zero_is_a_value_elsewhere(read: Read) -> None:
    assert read("--text_encoder_lr", "0").text_encoder_lr == 0.0


def test_the_shortest_bucket_side_is_never_above_the_resolution(read: Read) -> None:
    assert read("--resolution", "128").min_bucket_reso == 128
    assert read("--resolution", "512").min_bucket_reso == 256
    assert read("--min_bucket_reso", "300", "--max_bucket_reso", "1000").min_bucket_reso == 256
    assert read("--min_bucket_reso", "300", "--max_bucket_reso", "1000").max_bucket_reso == 1024


def test_alpha_zero_is_the_rank(read: Read) -> None:
    assert read("--network_alpha", "0", "--network_dim", "8").network_alpha == 8.0


def test_home_folder(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("model").mkdir()
    settings = read("--pretrained_model_name_or_path", "~/model", "--train_data_dir", "~/pictures")
    assert settings.pretrained_model_name_or_path == str(Path.cwd() / "model")
    assert settings.train_data_dir == Path.cwd() / "pictures"


def test_a_byte_order_mark_does_no_harm() -> None:
    text = "\ufeffpretrained_model_name_or_path = 'a/b'\ntrain_data_dir = 'pictures'\n"
    Path("run.toml").write_text(text, encoding="utf-8")
    assert read_settings(["--config", "run.toml"]).pretrained_model_name_or_path == "a/b"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_ends_with_status_0(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings([word, "--network_dim", "abc"], program="train_network")
    assert ended.value.code == 0
    assert "train_network.py --config" in capsys.readouterr().out


def test_all_mistakes_are_told_at_once_and_each_once(complaints: Complaints) -> None:
    toml = "[net]\nnetwork_dimm = 3\noptimizer_type = 'adamv'\nresolution = 500\nflux = true\n"
    told = complaints("--seed", "abc", "--train_data_dir", "nowhere", toml=toml)
    for word in ("network_dimm", "adamv", "500", "flux", "seed", "nowhere"):
        assert sum(word in sentence for sentence in told) == 1, word
    assert len(told) == 6


def test_a_missing_file_does_not_hide_what_the_command_line_has() -> None:
    with pytest.raises(InputError) as told:
        read_settings(["--config", "gone.toml", "--network_dimm", "3"])
    assert len(told.value.sentences) == 2
    assert "gone.toml" in told.value.sentences[1]


@pytest.mark.parametrize("seed", ["3", "three"])
def test_nothing_heavy_is_imported(seed: str) -> None:
    program = (
        "import sys\n"
        "from library.errors import InputError\n"
        "from library.settings import read_settings\n"
        "try:\n"
        "    read_settings(sys.argv[1:])\n"
        "    print('read')\n"
        "except InputError:\n"
        "    print('refused')\n"
        "print(sorted({'torch', 'numpy', 'diffusers', 'transformers', 'PIL'} & set(sys.modules)))\n"
    )
    words = ["--pretrained_model_name_or_path", "a/b", "--train_data_dir", "pictures", "--seed", seed]
    environment: dict[str, Any] = {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True, env=environment
    )
    assert ended.stdout.splitlines() == ["read" if seed == "3" else "refused", "[]"]
