"""LoRA files added to weights: several at once, in any layout and rank, and taken out again bit for bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from library.adapters.keys import LoraWeights, read_adapter, to_kohya
from library.adapters.merged import load_adapters
from library.adapters.metadata import save_adapter
from library.errors import InputError
from library.weights import load_tensors

RESNET = "lora_unet_down_blocks_0_resnets_0_conv1"


@pytest.fixture
def files(modules, layers, tmp_path: Path) -> list[Path]:
    """Two adapters of different ranks, one in each layout."""
    paths = []
    for rank, layout in ((4, "safetensors"), (3, "diffusers")):
        adapted = {}
        for part, chosen in layers.items():
            for path, stem in chosen.items():
                adapted[stem] = random_layer(modules[part].get_submodule(path).weight, rank)
        paths.append(tmp_path / f"{layout}.safetensors")
        save_adapter(paths[-1], to_kohya(adapted), {}, layout=layout)
    return paths


def random_layer(weight: torch.Tensor, rank: int) -> LoraWeights:
    """Random values for a layer of this weight."""
    ones = (1,) * (weight.dim() - 2)
    generator = torch.Generator().manual_seed(weight.numel() + rank)
    down = torch.randn(rank, weight.shape[1], *ones, generator=generator) * 0.1
    return LoraWeights(down, torch.randn(weight.shape[0], rank, *ones, generator=generator) * 0.1, 2.0)


def test_a_merged_file_answers_as_the_adapter_does(modules, layers, make, run, files) -> None:
    base = run(modules)
    merged = load_adapters([(files[0], 0.7)], modules, layers)
    found = run(modules)
    merged.restore()
    assert all(torch.equal(values, base[part]) for part, values in run(modules).items())
    network = make(dim=4)
    network.load(load_tensors(files[0]))
    with network.scaled(0.7):
        expected = run(modules)
    for part, values in found.items():
        assert (values - expected[part]).abs().max() < 1e-4 * (expected[part] - base[part]).abs().max()


def test_files_add_up_at_their_strengths(modules, layers, files) -> None:
    before = {
        part: {name: each.clone() for name, each in modules[part].named_parameters()} for part in modules
    }
    merged = load_adapters([(files[0], 0.5), (files[1], -2.0)], modules, layers)
    one, two = read_adapter(files[0]), read_adapter(files[1])
    changed = 0
    for part, chosen in layers.items():
        for path, stem in chosen.items():
            weight = modules[part].get_submodule(path).weight
            expected = 0.5 * one[stem].delta() - 2.0 * two[stem].delta()
            torch.testing.assert_close(
                weight, before[part][f"{path}.weight"] + expected, rtol=1e-5, atol=1e-6
            )
            changed += 1
    assert changed == 192 + 12
    merged.restore()
    for part, weights in before.items():
        assert all(torch.equal(each, weights[name]) for name, each in modules[part].named_parameters())


def test_a_half_precision_weight_is_rounded_once(modules, layers, files) -> None:
    modules["unet"].half()
    path = next(iter(layers["unet"]))
    before = modules["unet"].get_submodule(path).weight.clone()
    load_adapters([(files[0], 1.0), (files[1], 1.0)], modules, layers)
    deltas = [read_adapter(file)[layers["unet"][path]].delta() for file in files]
    expected = (before.float() + sum(deltas)).half()
    after = modules["unet"].get_submodule(path).weight
    assert after.dtype == torch.float16
    torch.testing.assert_close(after, expected, rtol=1e-3, atol=0)


def test_strength_zero_leaves_the_model_alone(modules, layers, files) -> None:
    before = [each.clone() for each in modules["unet"].parameters()]
    load_adapters([(files[0], 0.0)], modules, layers)
    assert all(torch.equal(*each) for each in zip(before, modules["unet"].parameters(), strict=True))


def test_files_with_more_layers_than_ours_fit_too(modules, layers, tmp_path: Path, capsys) -> None:
    down, up = torch.randn(2, 16, 3, 3), torch.randn(16, 2, 1, 1)
    save_file(
        {f"{RESNET}.lora_down.weight": down, f"{RESNET}.lora_up.weight": up}, tmp_path / "conv.safetensors"
    )
    weight = modules["unet"].down_blocks[0].resnets[0].conv1.weight
    before = weight.detach().clone()
    load_adapters([(tmp_path / "conv.safetensors", 0.5)], modules, layers)
    change = torch.einsum("or,rihw->oihw", up.flatten(1), down)
    torch.testing.assert_close(weight.detach(), before + 0.5 * change, rtol=1e-4, atol=1e-5)
    assert "changes 1 layers and not 192 others" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stem", "inputs", "words"),
    [
        ("lora_unet_input_blocks_4_1_proj_in", 16, "has not.*input_blocks_4_1"),
        (RESNET, 7, "shape.*16, 16, 3, 3"),
    ],
)
def test_a_file_of_another_model_changes_nothing(
    modules, layers, files, tmp_path: Path, stem: str, inputs: int, words: str
) -> None:
    path = tmp_path / "other.safetensors"
    shapes = {"lora_down.weight": (2, inputs, 3, 3), "lora_up.weight": (16, 2, 1, 1)}
    save_file({f"{stem}.{leaf}": torch.ones(shape) for leaf, shape in shapes.items()}, path)
    before = [each.clone() for each in modules["unet"].parameters()]
    with pytest.raises(InputError, match=words):
        load_adapters([(files[0], 1.0), (path, 1.0)], modules, layers)
    assert all(torch.equal(*each) for each in zip(before, modules["unet"].parameters(), strict=True))
