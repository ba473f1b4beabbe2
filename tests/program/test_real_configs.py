"""Files as people have them for sd-scripts, lora-scripts and kohya_ss: read as they are, and trained for two steps.

Only what cannot be here is replaced: the base model, the size of pictures, the length of the run and half precision.
"""

from pathlib import Path
from typing import Any

import pytest

import train_network
from library import log
from library.settings import read_settings
from library.weights import read_header

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"lora_down.weight", "lora_up.weight", "alpha"}  # the leaves of a LoRA
FOLDER = Path(__file__).resolve().parent / "real_configs"
HERE = {
    "pretrained_model_name_or_path": ROOT / "demo" / "model",
    "max_train_steps": 2,
    "max_train_epochs": 0,
    "mixed_precision": "no",
    "sample_every_n_epochs": 0,
    "save_every_n_epochs": 0,
}

# Of each file what the finished LoRA says of its training, and how its layers are.
EXPECTED: dict[str, dict[str, Any]] = {
    "lora_scripts_sections": {
        "told": {
            "ss_network_module": "networks.lora",
            "ss_network_dim": "32",
            "ss_network_alpha": "16.0",
            "ss_clip_skip": "2",
            "ss_max_token_length": "225",
            "ss_lr_scheduler": "cosine_with_restarts",
            "ss_seed": "1337",
            "ss_unet_lr": "0.0001",
            "ss_text_encoder_lr": "1e-05",
        },
        "optimizer": "AdamW8bit",
        "leaves": PLAIN,
        "ranks": {32},
    },
    "lora_scripts_arguments": {
        "told": {"ss_noise_offset": "0.05", "ss_network_dim": "16", "ss_lr_warmup_steps": "1", "ss_keep_tokens": "1"},
        "optimizer": "Lion",
        "leaves": PLAIN,
        "ranks": {16, 4},
    },
    "lora_scripts_gui": {
        "told": {"ss_network_module": "networks.dylora", "ss_max_token_length": "225", "ss_noise_offset": "0.0357"},
        "optimizer": "Prodigy",
        "leaves": PLAIN,
        "ranks": {16},
    },
    "kohya_gui": {
        "told": {
            "ss_loss_type": "huber",
            "ss_huber_schedule": "snr",
            "ss_min_snr_gamma": "5.0",
            "ss_scale_weight_norms": "1.0",
            "ss_max_token_length": "150",
            "ss_text_encoder_lr": "5e-05",
            "ss_gradient_checkpointing": "True",
        },
        "optimizer": "AdamW8bit",
        "leaves": PLAIN,
        "ranks": {32, 8},
    },
    "sd_scripts_tables": {
        "told": {"ss_loss_type": "smooth_l1", "ss_ip_noise_gamma": "0.1", "ss_training_comment": "a remark"},
        "optimizer": "AdamW",
        "leaves": PLAIN,
        "ranks": {16},
    },
    "lycoris_lokr": {
        "told": {"ss_network_module": "lycoris.kohya", "ss_multires_noise_iterations": "8", "ss_keep_tokens": "1"},
        "optimizer": "Prodigy",
        "leaves": {"lokr_w1", "lokr_w2", "alpha", "w_norm", "b_norm"},
        "ranks": set(),
    },
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the files find what they name: pictures, and prompts of one quick step."""
    monkeypatch.chdir(tmp_path)
    log.warn.cache_clear()
    (tmp_path / "train").mkdir()
    for name in ("input", "reg"):
        (tmp_path / "train" / name).symlink_to(ROOT / "demo" / "subject", target_is_directory=True)
    (tmp_path / "prompts.txt").write_text("# a comment\na sks creature --n blurry --w 128 --h 128 --s 1\n")
    return tmp_path


def words_for(config: Path, place: Path, cache: Path) -> list[str]:
    """The command line for a file, whose pictures are made as small as the demo's."""
    text = config.read_text(encoding="utf-8").replace("512,512", "128,128").replace("512", "128")
    (place / config.name).write_text(text, encoding="utf-8")
    options = HERE | {"cache_dir": cache}
    return [f"--config_file={config.name}", *(f"--{name}={value}" for name, value in options.items())]


def test_all_files_are_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.toml")} == set(EXPECTED) and len(EXPECTED) >= 6


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_file_trains(name: str, place: Path, toy_cache: Path) -> None:
    argv, expected = words_for(FOLDER / f"{name}.toml", place, toy_cache), EXPECTED[name]
    settings = read_settings(argv)
    assert train_network.main(argv) == 0
    metadata, tensors = read_header(place / "output" / f"{settings.output_name}.safetensors")
    assert metadata["ss_steps"] == "2"
    assert {key: metadata[key] for key in expected["told"]} == expected["told"]
    assert f".{expected['optimizer']}(" in metadata["ss_optimizer"]
    assert {key.partition(".")[2] for key in tensors} == expected["leaves"]
    assert {shape[0] for key, (_, shape) in tensors.items() if key.endswith("lora_down.weight")} == expected["ranks"]
    assert any(key.startswith("lora_te_") for key in tensors) and any(key.startswith("lora_unet_") for key in tensors)
    # Its own settings run again, and mean the same.
    again = read_settings([f"--config={place / 'output' / settings.output_name}.toml"])
    assert again.network_args == settings.network_args and again.network_module == settings.network_module


def test_quirks_are_understood(place: Path, toy_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is empty is unset, what stands twice counts once, texts are numbers, and prompts of nobody are captions."""
    settings = {name: read_settings(words_for(FOLDER / f"{name}.toml", place, toy_cache)) for name in EXPECTED}
    plain = settings["lora_scripts_sections"]
    assert plain.reg_data_dir is None and plain.save_n_epoch_ratio is None and plain.lr_scheduler_num_cycles == 1
    assert settings["lora_scripts_arguments"].resolution == (128, 128)
    assert settings["lora_scripts_arguments"].network_module == "lora" and settings["lycoris_lokr"].full_bf16 is False
    assert settings["lora_scripts_gui"].text_encoder_lr == 1.0 and settings["kohya_gui"].text_encoder_lr == 5e-5
    assert settings["kohya_gui"].max_train_epochs is None and settings["kohya_gui"].conv_dim is None
    tables = settings["sd_scripts_tables"].datasets
    assert [len(table.subsets) for table in tables] == [2] and settings["sd_scripts_tables"].max_train_steps == 2
    said = capsys.readouterr().err
    assert "'xformers' is not needed" in said and "kohya_ss' own" in said and "not a setting" not in said
