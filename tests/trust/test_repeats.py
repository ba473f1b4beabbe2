"""A finished LoRA tells how it was made, so that `--config` repeats the run to the bit."""

import sys
from pathlib import Path

import pytest

import train_network
from library.settings import read_settings
from library.weights import load_tensors, read_header
from tests.runs import assert_same, draw_pictures, words_of
from tools import inspect_lora

# Everything random is on, and nothing is as it is by default.
RUN = {
    "pretrained_model_name_or_path": "model",
    "train_data_dir": "pictures",
    "cache_dir": "cache",
    "output_name": "mine",
    "resolution": 64,
    "train_batch_size": 2,
    "max_train_epochs": 3,
    "network_dim": 3,
    "network_alpha": 2,
    "network_args": ["conv_dim=2", "rank_dropout=0.1"],
    "network_train_unet_only": True,
    "learning_rate": 0.003,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 2,
    "optimizer_args": ["weight_decay=0.1", "betas=0.9,0.99"],
    "shuffle_caption": True,
    "keep_tokens": 1,
    "caption_dropout_rate": 0.2,
    "flip_aug": True,
    "noise_offset": 0.05,
    "min_snr_gamma": 5,
    "seed": 123,
}


def test_the_settings_in_a_file_repeat_its_run(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model").symlink_to(toy_model)
    draw_pictures(Path("pictures"), 5)
    assert train_network.main(words_of(RUN)) == 0
    first = Path("output/mine.safetensors")
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["inspect_lora.py", str(first), "--toml"])
    assert inspect_lora.main() == 0
    Path("again.toml").write_text(capsys.readouterr().out, encoding="utf-8")
    assert read_settings(["--config", "again.toml"]) == read_settings(words_of(RUN))
    assert train_network.main(["--config", "again.toml", "--output_dir", "again"]) == 0
    second = Path("again/mine.safetensors")
    assert_same(load_tensors(first), load_tensors(second))
    one, other = (read_header(path)[0] for path in (first, second))
    assert one["sshs_model_hash"] == other["sshs_model_hash"]
    assert one["ss_seed"] == "123" and other["ss_seed"] == "123"
