"""The LoRA layer: where it begins, what it computes, in which number format."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from library.adapters.kinds import Options, Size
from library.adapters.lora import LORA
from library.adapters.network import attach

PARTS = ("unet", "text_encoder")
CONV = "down_blocks.0.attentions.0.proj_in"
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def plain(modules, layers, **changes):
    """An adapter with its own start values."""
    arguments = {"kind": "lora", "modules": modules, "layers": layers, "dim": 4, "alpha": 2.0, "seed": 5}
    return attach(**(arguments | changes))


def test_start_values_belong_to_seed_and_layer(modules, layers) -> None:
    torch.manual_seed(0)
    stream = torch.get_rng_state()
    network = plain(modules, layers)
    assert torch.equal(stream, torch.get_rng_state())
    first = network.state_dict()
    network.detach()
    torch.manual_seed(1)
    alone = plain({"unet": modules["unet"]}, {"unet": {CONV: layers["unet"][CONV]}})
    key = f"{layers['unet'][CONV]}.lora_down.weight"
    assert torch.equal(alone.state_dict()[key], first[key])
    alone.detach()
    other = plain(modules, layers, seed=6).state_dict()
    assert not torch.equal(other[key], first[key])
    downs = [tensor for name, tensor in first.items() if name.endswith("lora_down.weight")]
    assert all(tensor.abs().max() <= tensor[0].numel() ** -0.5 for tensor in downs)
    spread = torch.cat([(tensor * tensor[0].numel() ** 0.5).flatten() for tensor in downs])
    assert abs(spread.std() - 3**-0.5) < 0.02


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adapters_are_float32_on_a_half_precision_base(modules, layers, dtype: torch.dtype) -> None:
    reference = plain(modules, layers)
    expected = reference.state_dict()
    reference.detach()
    network = plain({part: modules[part].to(dtype) for part in PARTS}, layers)
    parameters = [each for part in PARTS for each in network.parameters(part)]
    assert {each.dtype for each in parameters} == {torch.float32}
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())
    assert all(each.dtype == dtype for each in modules["unet"].parameters() if not each.requires_grad)


def test_a_layer_adds_scaled_up_times_down(modules, make: Callable) -> None:
    base = {path: modules["unet"].get_submodule(path) for path in (CONV, LINEAR)}
    network = make()
    stems = dict(zip((CONV, LINEAR), ("proj_in", "transformer_blocks_0_attn2_to_k"), strict=True))
    inputs = {CONV: torch.randn(2, 16, 5, 5), LINEAR: torch.randn(2, 7, 32)}
    for path, values in inputs.items():
        weights = network.weights()[f"lora_unet_down_blocks_0_attentions_0_{stems[path]}"]
        down, up = weights.down.flatten(1), weights.up.flatten(1)
        product = torch.einsum(
            "or,ri,...i->...o", up, down, values.movedim(1, -1) if path == CONV else values
        )
        product = product.movedim(-1, 1) if path == CONV else product
        wrapped = modules["unet"].get_submodule(path)
        for factor in (0.0, 0.5, -1.5):
            with network.scaled(factor):
                expected = base[path](values) + factor * 2.0 / 4 * product
                torch.testing.assert_close(wrapped(values), expected, rtol=1e-5, atol=1e-5)


def test_dropout_works_in_training_only(modules, make: Callable, run: Callable) -> None:
    make(options=Options(dropout=0.5))
    first, second = run(modules), run(modules)
    assert torch.equal(first["unet"], second["unet"])
    modules["unet"].train()
    assert not torch.equal(run(modules)["unet"], run(modules)["unet"])


def test_only_linear_layers_and_convolutions_are_wrapped(modules, make: Callable) -> None:
    network = make()
    bases = {type(layer.get_base_layer()) for part in PARTS for layer in network.layers[part].values()}
    assert bases == {nn.Linear, nn.Conv2d}


def test_patterns_are_for_unusual_ranks_alone() -> None:
    """PEFT tries every pattern on every layer: one for each of XL's 722 took ten seconds."""
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    sizes = {"0": Size(2, 2.0), "1": Size(3, 2.0), "3": Size(2, 1.0)}
    layers = LORA.inject(model, sizes, Options())
    assert {path: LORA.weights(layer).rank for path, layer in layers.items()} == {"0": 2, "1": 3, "3": 2}
    assert [LORA.scaling(layers[path]) for path in "013"] == [1.0, 2 / 3, 0.5]
    assert model.peft_config["default"].rank_pattern == {"^1": 3}
    assert model.peft_config["default"].alpha_pattern == {"^3": 1.0}
