"""train_network.py as a person starts it: a run to its end, --help, and a refusal before torch is loaded."""

import math
import subprocess
import sys
from pathlib import Path

import train_network
from tests.runs import ROOT, Bench, largest, listing


def test_pictures_become_a_lora(bench: Bench, capsys) -> None:
    before = listing(bench.pictures)
    tensors = bench.train()
    assert bench.names() == {"toy.safetensors", "toy.toml"}
    assert largest(tensors, "lora_unet") > 0.01 and largest(tensors, "lora_te") > 0.01
    assert listing(bench.pictures) == before
    losses = bench.losses()
    assert len(losses) == 4 and all(math.isfinite(loss) and 0 < loss < 5 for loss in losses)
    told = capsys.readouterr().out
    assert f"The LoRA is {bench.output / 'toy.safetensors'}" in told
    assert f"tensorboard --logdir {bench.logs}" in told
    assert "4 samples an epoch in batches of 2: 4 steps in 2 epochs of 2." in told


def test_a_config_file_and_the_command_line(bench: Bench, tmp_path: Path) -> None:
    """The words on the line beat the file."""
    config = tmp_path / "run.toml"
    config.write_text('[a]\noutput_name = "named"\nnetwork_dim = 3\n[b]\nmax_train_steps = 50\n')
    settings = {"output_name": None, "network_dim": None, "max_train_steps": 1, "network_train_unet_only": True}
    assert train_network.main(bench.argv(**settings, config=config)) == 0
    told = bench.metadata("named")
    assert (told["ss_steps"], told["ss_network_dim"]) == ("1", "3")


def test_a_misspelt_word_ends_the_process(bench: Bench) -> None:
    """A real process: its status, what it says, and where it says it."""
    command = [sys.executable, str(ROOT / "train_network.py"), *bench.argv(network_dimm=8)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=bench.folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "network_dim" in done.stderr
    assert not bench.output.exists()


def test_a_refusal_needs_no_torch(bench: Bench) -> None:
    program = (
        "import sys, train_network\n"
        "from library.errors import InputError\n"
        "try:\n    train_network.main(sys.argv[1:])\n"
        "except InputError:\n    print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & sys.modules.keys()))\n"
    )
    argv = bench.argv(optimizer_type="AdamX", resolution=100)
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_help_needs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train_network.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "--network_dim" in done.stdout and "--save_every_n_epochs" in done.stdout
    assert list(tmp_path.iterdir()) == []
