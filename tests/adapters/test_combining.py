"""Several LoRAs as one: the sum of their changes, exactly, whatever their layouts, ranks and alphas."""

from pathlib import Path

import pytest
import torch

from library.adapters.combining import Share, combine
from library.adapters.keys import LoraWeights, read_adapter, to_kohya
from library.adapters.layouts import convert
from library.errors import InputError
from library.weights import save_tensors

ONE = "lora_unet_mid_block_attentions_0_proj_in"
TWO = "lora_te_text_model_encoder_layers_0_mlp_fc1"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
SHAPES = {ONE: (8, 6, 1, 1), TWO: (5, 7), CONV: (4, 3, 3, 3)}


def write(path: Path, stems: tuple[str, ...], rank: int, alpha: float, layout: str = "kohya") -> Path:
    source, layers = torch.Generator().manual_seed(rank), {}
    for stem in stems:
        outputs, inputs, *rest = SHAPES[stem]
        up = torch.randn(outputs, rank, *[1 for _ in rest], generator=source)
        layers[stem] = LoraWeights(torch.randn(rank, inputs, *rest, generator=source), up, alpha)
    tensors, metadata = convert(to_kohya(layers), {}, layout, "x")
    save_tensors(path, tensors, metadata)
    return path


def test_changes_add_up(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", (ONE, TWO, CONV), 4, 1.0)
    second = write(tmp_path / "b.safetensors", (ONE, CONV), 3, 5.0, "diffusers")
    found = combine([Share(first, 0.8), Share(second, -0.5)])
    a, b = read_adapter(first), read_adapter(second)
    assert {stem: layer.rank for stem, layer in found.items()} == {ONE: 7, TWO: 4, CONV: 7}
    for stem, layer in found.items():
        expected = 0.8 * a[stem].delta() - (0.5 * b[stem].delta() if stem in b else 0)
        torch.testing.assert_close(layer.delta(), expected, rtol=1e-5, atol=1e-6)
        assert layer.scale == 1


def test_blocks_have_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", (ONE, TWO, CONV), 4, 2.0, "original")
    before = {stem: layer.delta() for stem, layer in combine([Share(path)]).items()}
    found = combine([Share(path, 2.0, {"mid": 0.5, "te": 0.0, "in": -3.0})])
    assert found.keys() == {ONE, CONV}
    torch.testing.assert_close(found[ONE].delta(), before[ONE], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[CONV].delta(), -6 * before[CONV], rtol=1e-5, atol=1e-5)


def test_subtracting_a_lora_from_itself_leaves_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", (ONE,), 4, 2.0)
    assert combine([Share(path), Share(path, -1.0)])[ONE].delta().abs().max() < 1e-5


def test_matrices_and_1x1_convolutions_are_one(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", (ONE,), 2, 2.0)
    layer = read_adapter(first)[ONE]
    flat = {ONE: LoraWeights(layer.down.flatten(1), layer.up.flatten(1), 2.0)}
    save_tensors(tmp_path / "b.safetensors", to_kohya(flat))
    for order in ([first, tmp_path / "b.safetensors"], [tmp_path / "b.safetensors", first]):
        found = combine([Share(path) for path in order])[ONE]
        torch.testing.assert_close(found.delta(), 2 * layer.delta(), rtol=1e-5, atol=1e-6)


def test_wrong_pairs_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path / "a.safetensors", (ONE,), 2, 2.0)
    other = {ONE: LoraWeights(torch.ones(2, 9), torch.ones(8, 2), 1.0)}
    save_tensors(tmp_path / "b.safetensors", to_kohya(other))
    with pytest.raises(InputError, match="not for one base model.*shape"):
        combine([Share(first), Share(tmp_path / "b.safetensors")])
    with pytest.raises(InputError, match="nothing is left"):
        combine([Share(first, 0.0)])
