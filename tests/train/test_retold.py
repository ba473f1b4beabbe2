"""A run's settings out of its file: what ran is what --config runs again, and nobody learns where its maker lives."""

import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from library.adapters.metadata import TrainingFacts, training_metadata
from library.settings import Settings, read_settings
from library.train.retold import ENTRY, retold_settings, told_settings

TABLES = """
[[datasets]]
resolution = 64
[[datasets.subsets]]
image_dir = "{folder}"
num_repeats = 3
"""


def again(text: str, tmp_path: Path, *words: str) -> Settings:
    path = tmp_path / "again.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(["--config", str(path), *words])


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures and a model in it."""
    for name in ("pictures", "model"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> Settings:
    return read_settings(["--pretrained_model_name_or_path", "model", *words])


def test_inside_the_working_folder_it_is_the_same_run(inside: Path) -> None:
    words = ["--train_data_dir", "pictures", "--network_dim", "5", "--caption_separator", "/"]
    settings = run(*words, "--metadata_author", "/me/", "--optimizer_args", "weight_decay=0.1")
    text = retold_settings({ENTRY: told_settings(settings)})
    assert again(text, inside) == settings and "#" not in text


def test_paths_elsewhere_are_not_told(inside: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("somebody") / "photos"
    secret.mkdir()
    (secret / "v.safetensors").touch()
    settings = run("--train_data_dir", str(secret), "--output_dir", "../out", "--vae", str(secret / "v.safetensors"))
    told = told_settings(settings)
    assert "somebody" not in told and ".." not in told
    text = retold_settings({ENTRY: told})
    assert 'train_data_dir = "photos"  # it lay in another folder' in text
    found = again(text, inside, "--train_data_dir", str(secret), "--output_dir", "../out", "--vae", settings.vae or "")
    assert found == settings


def test_tables_too(inside: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("somebody")
    (inside / "tables.toml").write_text(TABLES.format(folder=folder))
    settings = run("--dataset_config", str(inside / "tables.toml"))
    told = told_settings(settings)
    assert str(folder) not in told and f'"<{folder.name}>"' in told
    found = tomllib.loads(retold_settings({ENTRY: told}))
    assert found["datasets"][0]["subsets"][0] == {"image_dir": folder.name, "num_repeats": 3, "is_reg": False}


def test_the_file_of_a_run_holds_them(inside: Path) -> None:
    settings = run("--train_data_dir", "pictures", "--no_metadata")
    facts = TrainingFacts("x", "y", settings_text=told_settings(settings))
    assert again(retold_settings(training_metadata(facts)), inside) == settings
    assert ENTRY not in training_metadata(replace(facts, no_metadata=True))


def test_what_sd_scripts_notes_becomes_settings(inside: Path) -> None:
    (inside / "v1-5.safetensors").touch()
    metadata = {
        "ss_sd_model_name": "v1-5.safetensors",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "8",
        "ss_network_alpha": "4.0",
        "ss_learning_rate": "0.0002",
        "ss_unet_lr": "None",
        "ss_optimizer": "bitsandbytes.optim.adamw.AdamW8bit(weight_decay=0.1,betas=(0.9, 0.99))",
        "ss_resolution": "(512, 768)",
        "ss_batch_size_per_device": "3",
        "ss_max_train_steps": "700",
        "ss_num_epochs": "7",
        "ss_shuffle_caption": "True",
        "ss_seed": "42",
        "ss_lowram": "False",
        "ss_dataset_dirs": '{"10_sks cat": {"n_repeats": 10, "img_count": 20}}',
    }
    text = retold_settings(metadata)
    assert '# The pictures lay in a folder "10_sks cat" (n_repeats 10, img_count 20); set train_data_dir.' in text
    settings = again(text, inside, "--train_data_dir", "pictures")
    wanted = {
        "pretrained_model_name_or_path": "v1-5.safetensors",
        "network_module": "lora",
        "network_dim": 8,
        "network_alpha": 4.0,
        "learning_rate": 0.0002,
        "unet_lr": None,
        "optimizer_type": "AdamW8bit",
        "optimizer_args": ("weight_decay=0.1", "betas=(0.9, 0.99)"),
        "resolution": (512, 768),
        "train_batch_size": 3,
        "max_train_steps": 700,
        "max_train_epochs": None,
        "shuffle_caption": True,
        "seed": 42,
    }
    assert {name: getattr(settings, name) for name in wanted} == wanted
    assert wanted.keys() <= {field.name for field in fields(Settings)}


def test_what_cannot_be_taken_over_is_noted() -> None:
    text = retold_settings({"ss_seed": "1", "ss_network_dim": "Dynamic"})
    assert tomllib.loads(text) == {"seed": 1} and "# " in text and "network_dim" in text


def test_nothing_tells_nothing() -> None:
    assert retold_settings({"modelspec.title": "x"}) == ""
