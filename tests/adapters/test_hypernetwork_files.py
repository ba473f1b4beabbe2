"""Files of hypernetworks: what AUTOMATIC1111 finds in ours, and what is found in its own."""

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from library.adapters.changes import read_changes
from library.adapters.hypernetwork import ContextNetwork, Form
from library.adapters.hypernetwork_files import HypernetworkFile, modules_in, read_hypernetwork, write_hypernetwork
from library.adapters.inspection import inspect
from library.adapters.merged import load_adapters
from library.adapters.uis import verdicts
from library.errors import InputError
from library.weights import load_weights_only
from tests.toys import toy_unet

NAMES = {
    *("step", "name", "layer_structure", "activation_func", "is_layer_norm", "weight_initialization", "sd_checkpoint"),
    *("sd_checkpoint_name", "activate_output", "use_dropout", "dropout_structure", "last_layer_dropout"),
    "optional_info",
}


def filled(network: nn.Module, seed: int) -> nn.Module:
    """A network with numbers in it."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return network.requires_grad_(False)


def made(form: Form | None = None, widths: tuple[int, ...] = (32, 16, 24)) -> HypernetworkFile:
    form = form or Form()
    pairs = {width: tuple(filled(ContextNetwork(width, form), width + n) for n in (0, 1)) for width in widths}
    return HypernetworkFile("sks", form, pairs, 40, "0123456789", "base", {"ss_steps": "40", "a": "ü"})


def as_theirs(width: int, form: Form, dropout: float = 0.0) -> nn.Sequential:
    """The layers in the order of AUTOMATIC1111's own class: linear, activation, norm, dropout."""
    layers: list[nn.Module] = []
    sizes = [int(width * each) for each in form.structure]
    for number in range(len(sizes) - 1):
        is_last = number == len(sizes) - 2
        layers.append(nn.Linear(sizes[number], sizes[number + 1]))
        if form.activation == "relu" and (not is_last or form.activate_output):
            layers.append(nn.ReLU())
        if form.layer_norm:
            layers.append(nn.LayerNorm(sizes[number + 1]))
        if dropout and not is_last:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


@pytest.mark.parametrize("structure", [(1, 1), (1, 2, 1), (1, 0.5, 3, 1)])
def test_the_web_ui_finds_what_it_looks_for(tmp_path: Path, structure: tuple[float, ...]) -> None:
    """Its strict loading, its numbers, and a pickle of torch's old form, which its reader of pickles demands."""
    path, given = tmp_path / "sks.pt", made(Form(structure))
    write_hypernetwork(path, given)
    assert not zipfile.is_zipfile(path)
    content = torch.load(path, weights_only=True)
    assert {key for key in content if isinstance(key, str)} == NAMES
    assert [key for key in content if isinstance(key, int)] == [16, 24, 32]
    assert (content["layer_structure"], content["activation_func"]) == (list(structure), "relu")
    assert (content["step"], content["name"], content["sd_checkpoint"]) == (40, "sks", "0123456789")
    assert not content["activate_output"] and not content["is_layer_norm"] and not content["use_dropout"]
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1))
    for place in (0, 1):
        theirs = nn.Module()
        theirs.linear = as_theirs(32, given.form)
        theirs.load_state_dict(content[32][place])
        assert torch.equal(theirs.linear(x), given.pairs[32][place](x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_written_and_read(tmp_path: Path, dtype: torch.dtype) -> None:
    given = made()
    write_hypernetwork(tmp_path / "a.pt", given, dtype)
    found = read_hypernetwork(tmp_path / "a.pt")
    assert found is not None and found.dtype == dtype
    same = ("name", "form", "step", "checkpoint", "checkpoint_name", "metadata")
    assert all(getattr(found, each) == getattr(given, each) for each in same)
    assert found.pairs.keys() == given.pairs.keys()
    for width, pair in found.pairs.items():
        for mine, theirs in zip(given.pairs[width], pair, strict=True):
            pairs = zip(mine.parameters(), theirs.parameters(), strict=True)
            assert all(torch.equal(one.to(dtype).float(), other) for one, other in pairs)


@pytest.mark.parametrize("activate_output", [None, True, False])
@pytest.mark.parametrize(("layer_norm", "dropout"), [(False, 0.0), (True, 0.0), (False, 0.3), (True, 0.3)])
@torch.no_grad()
def test_theirs_is_read(tmp_path: Path, layer_norm: bool, dropout: float, activate_output: bool | None) -> None:
    """Dropout leaves gaps in the numbers of layers; where a file does not say so, the last layer is activated."""
    form = Form((1, 2, 1.5, 1), "relu", activate_output is not False, layer_norm)
    theirs = [filled(as_theirs(16, form, dropout), seed).eval() for seed in (1, 2)]
    content = {
        16: tuple({f"linear.{name}": each for name, each in network.state_dict().items()} for network in theirs),
        "layer_structure": [1, 2, 1.5, 1],
        "activation_func": "relu",
        "is_layer_norm": layer_norm,
        "use_dropout": bool(dropout),
        "step": 7,
    }
    if activate_output is not None:
        content["activate_output"] = activate_output
    torch.save(content, tmp_path / "theirs.pt")
    found = read_hypernetwork(tmp_path / "theirs.pt")
    assert found is not None and (found.name, found.step, found.form) == ("theirs", 7, form)
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    for network, mine in zip(theirs, found.pairs[16], strict=True):
        assert torch.allclose(network(x), mine(x), atol=1e-6)


def test_the_first_files_had_other_names(tmp_path: Path) -> None:
    state = {"linear1.weight": torch.ones(4, 2), "linear1.bias": torch.zeros(4)}
    state |= {"linear2.weight": torch.ones(2, 4), "linear2.bias": torch.zeros(2)}
    torch.save({2: (state, state)}, tmp_path / "old.pt")
    found = read_hypernetwork(tmp_path / "old.pt")
    assert found is not None and torch.equal(found.pairs[2][0](torch.ones(1, 2)), torch.full((1, 2), 8.0))


@torch.no_grad()
def test_put_on_a_model_and_taken_off(tmp_path: Path) -> None:
    """Two files after each other on the UNet, whose attention to itself has widths 16, 24 and 32, and text 32."""
    unet = toy_unet().eval()
    filled(unet, 5)
    write_hypernetwork(tmp_path / "one.pt", made())
    write_hypernetwork(tmp_path / "two.pt", made(Form((1, 1), "linear"), (32,)))
    layers = {"unet": {"mid_block.attentions.0.proj_in": "lora_unet_mid_block_attentions_0_proj_in"}}

    def drawn() -> Tensor:
        generator = torch.Generator().manual_seed(1)
        noise, text = torch.randn(1, 4, 8, 8, generator=generator), torch.randn(1, 7, 32, generator=generator)
        found: Tensor = unet(noise, 500, text).sample
        return found

    before = drawn()
    found = {}
    for name, files in {"one": [("one", 1.0)], "both": [("one", 1.0), ("two", 0.5)], "none": [("one", 0.0)]}.items():
        merged = load_adapters(
            [(tmp_path / f"{each}.pt", strength) for each, strength in files], {"unet": unet}, layers
        )
        found[name] = drawn()
        merged.restore()
        assert torch.equal(drawn(), before)
    assert torch.equal(found["none"], before)
    assert not torch.allclose(found["one"], before, atol=1e-3)
    assert not torch.allclose(found["both"], found["one"], atol=1e-3)


def test_a_width_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "a.pt", made(widths=(32, 40)))
    layers = {"unet": {"mid_block.attentions.0.proj_in": "lora_unet_mid_block_attentions_0_proj_in"}}
    with pytest.raises(InputError, match="contexts of width 40, and the model's are 16, 24, 32"):
        load_adapters([(tmp_path / "a.pt", 0.0)], {"unet": toy_unet()}, layers)


def test_what_inspection_says(tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "a.pt", made(widths=(768, 320)), torch.float16)
    look = inspect(tmp_path / "a.pt")
    assert (look.layout, look.family, look.warnings) == ("hypernetwork", "sd1", [])
    assert look.kinds == {"hypernetwork's networks": 4} and list(look.blocks) == [
        *("320.to_k", "320.to_v", "768.to_k", "768.to_v")
    ]
    assert look.dtypes == {"float16": 2 * sum(2 * 2 * width * width + 3 * width for width in (768, 320))}
    whole = {each.ui for each in verdicts(look) if each.state == "whole"}
    assert whole == {"AUTOMATIC1111", "ComfyUI"} and len(verdicts(look)) == 6
    assert look.metadata["ss_steps"] == "40"
    given = made(widths=(768,))
    given.pairs[768][0].matrices[-1].weight.zero_()
    given.pairs[768][0].matrices[-1].bias.zero_()
    assert [each.norm > 0 for each in modules_in(given)] == [False, True]


def test_no_program_takes_it_for_changes_of_weights(tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "a.pt", made())
    with pytest.raises(InputError, match="a.pt is a hypernetwork: .* only drawing knows it"):
        read_changes(tmp_path / "a.pt")


def test_other_files_are_none(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "b.pt")
    for name in ("a.pt", "b.pt", "missing.safetensors"):
        assert read_hypernetwork(tmp_path / name) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_func": "magic"}, "the activation 'magic' is not known here; there are linear, relu"),
        ({"layer_structure": [1]}, "layer_structure cannot be"),
        ({"layer_structure": "1,2,1"}, "layer_structure cannot be"),
        ({"layer_structure": [1, 3, 1]}, "does not have the layers that it names"),
        ({"is_layer_norm": True}, "does not have the layers that it names"),
        ({16: ()}, "two networks for the width 16"),
        ({16: ({}, {})}, "does not have the layers that it names"),
        ({16: (1, 2)}, "does not have the layers that it names"),
        ({16: ({"linear.0.weight": torch.ones(32, 16)}, {})}, "does not have the layers that it names"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict, words: str) -> None:
    write_hypernetwork(tmp_path / "a.pt", made(widths=(16,)))
    torch.save(load_weights_only(tmp_path / "a.pt") | change, tmp_path / "b.pt")
    with pytest.raises(InputError, match=words):
        read_hypernetwork(tmp_path / "b.pt")
