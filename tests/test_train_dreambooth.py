"""train_dreambooth.py as a person starts it: a run to its end, --help, and a refusal before torch is loaded."""

import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from library.models.family import open_family
from tests.runs import ROOT, WHOLE, Bench, largest, listing


def test_pictures_change_the_whole_model(bench: Bench, capsys) -> None:
    before = listing(bench.pictures), listing(bench.model)
    bench.train_all()
    assert bench.names() == {"toy.safetensors", "toy.toml"}
    assert (listing(bench.pictures), listing(bench.model)) == before
    told = capsys.readouterr().out
    assert f"The model is {bench.output / 'toy.safetensors'}; its settings are in {bench.output / 'toy.toml'}." in told
    tuned, base = open_family(str(bench.output / "toy.safetensors")), open_family(str(bench.model))
    for part, moves in (("unet", True), ("vae", False), ("text_encoder", False)):
        one, other = tuned.part_tensors(part), base.part_tensors(part)
        assert {torch.equal(one[key], other[key]) for key in one} == {not moves}
    assert bench.metadata()["modelspec.architecture"] == "stable-diffusion-v1"


def test_a_named_network_makes_a_lora(bench: Bench, capsys) -> None:
    tensors = bench.train_all(network_module="lora", network_dim=2, network_alpha=2)
    assert largest(tensors, "lora_unet") > 0 and "The LoRA is" in capsys.readouterr().out
    again = bench.at("other")
    again.train(learning_rate=0.001)
    other = load_file(again.output / "toy.safetensors")
    assert tensors.keys() == other.keys() and all(torch.equal(tensors[key], other[key]) for key in tensors)


def test_a_refusal_needs_no_torch(bench: Bench) -> None:
    program = (
        "import sys, train_dreambooth\n"
        "from library.errors import InputError\n"
        "try:\n    train_dreambooth.main(sys.argv[1:])\n"
        "except InputError:\n    print(sorted({'torch', 'diffusers', 'transformers', 'numpy'} & sys.modules.keys()))\n"
    )
    argv = bench.argv(**WHOLE, full_bf16=True)
    done = subprocess.run([sys.executable, "-c", program, *argv], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_a_wrong_word_ends_the_process(bench: Bench) -> None:
    command = [sys.executable, str(ROOT / "train_dreambooth.py"), *bench.argv(network_dim=8)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=bench.folder)
    assert done.returncode == 2 and done.stdout == "" and not bench.output.exists()
    assert "network_dim belongs to the training of an adapter" in done.stderr


def test_help_needs_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "train_dreambooth.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "usage: python train_dreambooth.py" in done.stdout and "--train_text_encoder" in done.stdout
    assert list(tmp_path.iterdir()) == []
