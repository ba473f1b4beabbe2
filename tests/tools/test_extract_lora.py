"""tools/extract_lora.py: a LoRA of two models, what it says, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from library.adapters.changes import read_changes
from library.adapters.keys import read_adapter
from library.adapters.kronecker import nearest_kronecker
from library.errors import InputError
from library.models.family import open_family
from library.models.saving import save_model
from library.weights import read_header
from tests.toy_families import write_toy
from tools import extract_lora

PROGRAM = Path(extract_lora.__file__)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and the same with a UNet that was moved in one file."""
    folder = tmp_path_factory.mktemp("pair")
    base = open_family(str(write_toy(folder / "base", "sd1")))
    source = torch.Generator().manual_seed(0)
    unet = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=source)
        for name, tensor in base.part_tensors("unet").items()
    }
    save_model(folder / "tuned.safetensors", base, {"unet": unet}, torch.float32, {})
    return folder / "base", folder / "tuned.safetensors"


def run(monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path], *words: object) -> int:
    given = ["--base", pair[0], "--tuned", pair[1], *words]
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *map(str, given)])
    return extract_lora.main()


def test_it_writes_a_lora_and_says_what_is_in_it(pair, tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "mine.safetensors"
    assert run(monkeypatch, pair, "--dim", 4, "--output", output, "--save_precision", "fp16") == 0
    printed = capsys.readouterr().out
    assert "unet: 192 layers, rank 4, relative error 0." in printed and "written:" in printed
    assert "% of this part's change lies in tensors that the LoRA does not have" in printed
    layers = read_adapter(output)
    assert len(layers) == 192 and {each.rank for each in layers.values()} == {4}
    metadata, entries = read_header(output)
    assert {kind for kind, _ in entries.values()} == {"F16"}
    assert metadata["ss_network_dim"] == "4" and metadata["ss_base_model_version"] == "sd_v1"
    assert metadata["modelspec.architecture"] == "stable-diffusion-v1/lora" and len(metadata["sshs_model_hash"]) == 64


def test_ranks_by_energy_share_one_alpha(pair, tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "mine.safetensors"
    assert run(monkeypatch, pair, "--energy", 0.6, "--conv_dim", 3, "--output", output) == 0
    assert "278 layers, ranks " in capsys.readouterr().out
    layers = read_adapter(output)
    assert len({each.alpha for each in layers.values()}) == 1 < len({each.rank for each in layers.values()})
    assert read_header(output)[0]["ss_network_dim"] == "Dynamic"


def test_nothing_is_overwritten_unasked(pair, tmp_path: Path, monkeypatch) -> None:
    output = tmp_path / "mine.safetensors"
    output.write_bytes(b"precious")
    with pytest.raises(InputError, match="is there already"):
        run(monkeypatch, pair, "--dim", 1, "--output", output)
    assert output.read_bytes() == b"precious"
    assert run(monkeypatch, pair, "--dim", 1, "--output", output, "--overwrite") == 0
    assert len(read_adapter(output)) == 192


def test_every_mistake_is_said_at_once_with_status_2(tmp_path: Path) -> None:
    words = ["--base", "a", "--tuned", "b", "--output", tmp_path / "x.pt", "--conv_dim", 0, "--clamp_quantile", 2]
    done = subprocess.run([sys.executable, PROGRAM, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 4
    for sentence in ("end in .safetensors", "--dim, --energy", "--conv_dim 0", "--clamp_quantile 2"):
        assert sentence in done.stderr


def test_equal_models_leave_no_file(pair, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(InputError, match="nothing to extract"):
        run(monkeypatch, (pair[0], pair[0]), "--dim", 1, "--output", tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_help_has_an_example(capsys) -> None:
    with pytest.raises(SystemExit):
        extract_lora.parse_arguments(["--help"])
    assert "example: python tools/extract_lora.py" in capsys.readouterr().out


def test_a_lokr_holds_the_nearest_products(pair, tmp_path: Path, monkeypatch, capsys) -> None:
    output = tmp_path / "mine.safetensors"
    assert run(monkeypatch, pair, "--algo", "lokr", "--dim", 2, "--conv_dim", 4, "--output", output) == 0
    assert "unet: 278 layers of LoKr, relative error 0." in capsys.readouterr().out
    changes = read_changes(output)
    metadata = read_header(output)[0]
    assert metadata["ss_network_module"] == "lycoris.kohya" and '"algo": "lokr"' in metadata["ss_network_args"]
    assert len({float(each.leaves["alpha"]) for each in changes.values()}) == 1
    name = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    before, after = (open_family(str(path)).part_tensors("unet")[name] for path in pair)
    expected = nearest_kronecker(after - before, -1, 2)
    found = changes["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"]
    torch.testing.assert_close(found.of(before), expected.delta(), rtol=1e-4, atol=1e-6)
    assert expected.is_split and (after - before - expected.delta()).norm() < (after - before).norm()
    with pytest.raises(InputError, match="--energy and --clamp_quantile are for --algo lora"):
        run(monkeypatch, pair, "--algo", "lokr", "--energy", 0.5, "--output", output, "--overwrite")
    with pytest.raises(InputError, match="--factor 0 must be"):
        run(monkeypatch, pair, "--algo", "lokr", "--factor", 0, "--output", output, "--overwrite")
