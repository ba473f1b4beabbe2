"""A wrong setting is answered before anything heavy is imported, within 2 seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT, Bench

SECONDS = 2.0
HEAVY = ("torch", "numpy", "PIL", "diffusers", "transformers", "accelerate", "peft", "safetensors", "tensorboard")


@pytest.mark.parametrize("program", ["train_network.py", "train_dreambooth.py"])
@pytest.mark.parametrize("wrong", ["--network_dimm=8", "--learning_rate=fast", "--train_data_dir=nowhere"])
def test_a_wrong_setting_is_answered_at_once(bench: Bench, program: str, wrong: str, tmp_path: Path) -> None:
    """By the processor's clock, as others may be at work on the machine too."""
    words = [sys.executable, "-X", "importtime", str(ROOT / program), *bench.argv(network_dim=None), wrong]
    before = os.times()
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    after = os.times()
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert done.returncode == 2 and any(line.startswith("error: ") for line in lines)
    assert "library.settings.reading" in imported and not imported & {*HEAVY}
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    print(f"{spent:.2f} s")
    assert spent < SECONDS
