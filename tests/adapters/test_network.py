"""Adapters go where they are told, begin without effect, learn alone, and come off without a trace."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from library.adapters.keys import dims_of
from library.adapters.metadata import save_adapter
from library.adapters.network import attach
from library.errors import InputError
from library.models.family import Family
from tests.toys import toy_text_encoder

PARTS = ("unet", "text_encoder")
LEAVES = ("lora_down.weight", "lora_up.weight")


def plain(modules, layers, **changes):
    """An adapter with its own start values."""
    arguments = {"kind": "lora", "modules": modules, "layers": layers, "dim": 4, "alpha": 2.0, "seed": 5}
    return attach(**(arguments | changes))


def test_real_sd15_layers_are_all_taken(modules, layers, family: Family) -> None:
    modules["text_encoder"] = toy_text_encoder(12)
    layers["text_encoder"] = family.adapter_layers(modules["text_encoder"], "text_encoder")
    network = plain(modules, layers)
    assert {part: len(network.layers[part]) for part in PARTS} == {"unet": 192, "text_encoder": 72}
    state = network.state_dict()
    assert len(state) == 3 * (192 + 72)
    stems = {key.partition(".")[0] for key in state}
    assert stems == {stem for part in PARTS for stem in layers[part].values()}
    for part in PARTS:
        ours = sum(state[f"{stem}.{leaf}"].numel() for stem in layers[part].values() for leaf in LEAVES)
        assert sum(parameter.numel() for parameter in network.parameters(part)) == ours


def test_keys_and_shapes_are_kohyas(modules, layers) -> None:
    weights = {part: dict(modules[part].named_parameters()) for part in PARTS}
    shapes = {
        stem: weights[part][f"{path}.weight"].shape for part in PARTS for path, stem in layers[part].items()
    }
    state = plain(modules, layers).state_dict()
    assert sum(len(shape) == 4 for shape in shapes.values()) == 32
    for stem, shape in shapes.items():
        ones = (1, 1) if len(shape) == 4 else ()
        assert state[f"{stem}.lora_down.weight"].shape == (4, shape[1], *ones)
        assert state[f"{stem}.lora_up.weight"].shape == (shape[0], 4, *ones)
        assert state[f"{stem}.alpha"].shape == () and state[f"{stem}.alpha"].item() == 2.0
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}


def test_it_begins_as_the_base_model(modules, layers, run: Callable) -> None:
    before = run(modules)
    plain(modules, layers)
    after = run(modules)
    assert all(torch.equal(before[part], after[part]) for part in PARTS)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_moves_the_adapters_and_nothing_else(
    modules, make: Callable, unet_inputs, dtype: torch.dtype | None, checkpointing: bool
) -> None:
    network = make()
    learning = {id(each) for part in PARTS for each in network.parameters(part)}
    for module in modules.values():
        module.train()
        if checkpointing and module is modules["unet"]:
            module.enable_gradient_checkpointing()
        elif checkpointing:
            module.gradient_checkpointing_enable({"use_reentrant": False})
        if dtype:
            for each in module.parameters():
                each.data = each.data if id(each) in learning else each.data.to(dtype)
    every = [each for module in modules.values() for each in module.parameters()]
    before = [each.detach().clone() for each in every]
    assert {id(each) for each in every if each.requires_grad} == learning
    optimizer = torch.optim.SGD([each for each in every if each.requires_grad], lr=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not None):
        hidden = modules["text_encoder"](torch.arange(154).reshape(2, 77)).last_hidden_state
        loss = modules["unet"](unet_inputs[0], unet_inputs[1], hidden).sample.float().square().mean()
    loss.backward()
    optimizer.step()
    moved = {id(new) for old, new in zip(before, every, strict=True) if not torch.equal(old, new)}
    # At the UNet's bottom a toy picture is one pixel, whose attention to itself has no gradient.
    assert moved <= learning and len(moved) > 0.95 * len(learning)


def test_scaling_and_disabling_end_with_their_blocks(modules, make: Callable, run: Callable) -> None:
    base = run(modules)
    network = make()
    adapted = run(modules)
    flags = [each.requires_grad_(number % 2 == 0) for number, each in enumerate(network.parameters("unet"))]
    wanted = [each.requires_grad for each in flags]
    with network.scaled(0.5):
        half = run(modules)
    with pytest.raises(KeyError), network.disabled():
        disabled = run(modules)
        raise KeyError
    again = run(modules)
    assert [each.requires_grad for each in network.parameters("unet")] == wanted
    for part in PARTS:
        assert torch.equal(disabled[part], base[part])
        assert torch.equal(again[part], adapted[part])
        assert not torch.allclose(half[part], adapted[part], rtol=1e-3)
        assert not torch.allclose(half[part], base[part], rtol=1e-3)


def test_detaching_leaves_the_base_model(modules, make: Callable, run: Callable) -> None:
    names, base = list(modules["unet"].state_dict()), run(modules)
    make().detach()
    assert list(modules["unet"].state_dict()) == names
    assert all(torch.equal(base[part], values) for part, values in run(modules).items())
    assert not hasattr(modules["unet"], "peft_config")


def test_a_state_is_taken_over_whole_or_not(modules, make: Callable) -> None:
    network = make(seed=1)
    state = network.state_dict()
    network.detach()
    network = make(seed=2)
    network.load(state)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    stem = next(iter(state)).partition(".")[0]
    with pytest.raises(InputError, match=f"lacks 1 layers.*{stem}"):
        network.load({key: value for key, value in state.items() if not key.startswith(f"{stem}.")})
    with pytest.raises(InputError, match="1 layers that this network has not.*lora_unet_other"):
        network.load(state | {key.replace(stem, "lora_unet_other"): value for key, value in state.items()})


@pytest.mark.parametrize("layout", ["safetensors", "diffusers"])
def test_a_file_gives_start_values(
    modules, make: Callable, run: Callable, tmp_path: Path, layout: str
) -> None:
    network = make(seed=1)
    expected, state, path = run(modules), network.state_dict(), tmp_path / "start.safetensors"
    save_adapter(path, state, {}, layout=layout)
    network.detach()
    make(seed=2, alpha=8.0).start_from(path)
    for part, values in run(modules).items():
        torch.testing.assert_close(values, expected[part], rtol=1e-4, atol=1e-5)


def test_another_rank_names_both_and_can_be_taken_over(
    modules, layers, make: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "ranks.safetensors"
    stems = list(layers["unet"].values())[:3]
    ranks = dict(zip(stems, (2, 3, 4), strict=True))
    small = make(dim=ranks)
    state = small.state_dict()
    assert [state[f"{stem}.lora_down.weight"].shape[0] for stem in stems] == [2, 3, 4]
    assert small.layers.keys() == {"unet"} and len(state) == 9
    save_adapter(path, state, {})
    small.detach()
    assert dims_of(path) == (ranks, 2.0)
    network = make(dim=dims_of(path).ranks, seed=3)
    network.start_from(path)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    network.detach()
    with pytest.raises(InputError, match="rank is 2 and this network's is 4.*network_dim = 2"):
        make().start_from(path)


def test_what_a_file_lacks_or_has_too_much_is_said(
    modules, layers, make: Callable, tmp_path: Path, capsys
) -> None:
    path = tmp_path / "both.safetensors"
    network = make()
    save_adapter(path, network.state_dict(), {})
    network.detach()
    unet_only = make(layers={"unet": layers["unet"]}, seed=2)
    unet_only.start_from(path)
    assert "also has layers for the text_encoder" in capsys.readouterr().err
    unet_only.detach()
    few = {"unet": dict(list(layers["unet"].items())[:3])}
    with pytest.raises(InputError, match="189 layers that this network has not"):
        make(layers=few).start_from(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 0}, "at least 1"),
        ({"alpha": 0.0}, "above 0"),
        ({"dim": {"lora_unet_elsewhere": 4}}, "fits no layer"),
    ],
)
def test_wrong_networks_are_refused(modules, layers, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        plain(modules, layers, **changes)
