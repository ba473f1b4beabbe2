"""Hypernetworks that begin with the numbers of a file, their own and AUTOMATIC1111's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from library.adapters.hypernetwork import ContextNetwork, Form, networks_of
from library.adapters.hypernetwork_files import HypernetworkFile, write_hypernetwork
from library.adapters.hypernetwork_kind import listed
from library.adapters.kinds import Options
from library.adapters.network import Network, attach
from library.errors import InputError

WIDTHS = {"attn1": 8, "attn2": 12}
STEMS = {f"{block}.to_{each}": f"lora_unet_{block}_to_{each}" for block in WIDTHS for each in "kv"}


def small_unet() -> nn.Module:
    """Keys and values of contexts of two widths."""
    blocks = {
        name: nn.ModuleDict({f"to_{each}": nn.Linear(width, 8) for each in "kv"}) for name, width in WIDTHS.items()
    }
    return nn.ModuleDict(blocks)


def attached(**arguments: object) -> Network:
    """A hypernetwork on all of them."""
    return attach("hypernetwork", {"unet": small_unet()}, {"unet": STEMS}, 4, 2.0, 5, Options(arguments=arguments))


def made(form: Form | None = None, widths: tuple[int, ...] = (8, 12)) -> HypernetworkFile:
    """A file's content, with numbers in it."""
    form = form or Form()
    pairs = {width: (ContextNetwork(width, form), ContextNetwork(width, form)) for width in widths}
    for width, pair in pairs.items():
        for number, network in enumerate(pair):
            for each in network.parameters():
                generator = torch.Generator().manual_seed(width + number)
                each.data = torch.randn(each.shape, generator=generator)
    return HypernetworkFile("sks", form, pairs)


@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_the_numbers_of_a_file_are_the_start(tmp_path: Path, dtype: torch.dtype | None) -> None:
    """Those for keys go to keys, those for values to values, each to its width; half precision is widened exactly."""
    given = made(Form((1, 2, 2, 1), "mish"))
    write_hypernetwork(tmp_path / "sks.pt", given, dtype)
    network = attached(layer_structure=(1, 2, 2, 1), activation_func="mish")
    network.start_from(tmp_path / "sks.pt")
    for reader, own in networks_of(network.layers["unet"]):
        theirs = given.pairs[own.width][reader == "to_v"]
        for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine, other.to(dtype or torch.float32).float()) and mine.requires_grad


def test_a_width_that_the_file_has_not_starts_anew(tmp_path: Path, capsys) -> None:
    write_hypernetwork(tmp_path / "sks.pt", made(widths=(12, 16)))
    network, fresh = attached(), attached()
    network.start_from(tmp_path / "sks.pt")
    said = capsys.readouterr().err
    assert "also has networks for contexts of the widths 16" in said and "lacks 2 layers of this network" in said
    pairs = zip(networks_of(network.layers["unet"]), networks_of(fresh.layers["unet"]), strict=True)
    for (_, one), (_, other) in pairs:
        assert torch.equal(one.matrices[0].weight, other.matrices[0].weight) == (one.width == 8)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (Form((1, 3, 1)), r'set network_args = \["layer_structure=1,3,1", "activation_func=relu"\]'),
        (Form(activation="mish"), "activation_func=mish"),
        (Form(layer_norm=True), "it has norms"),
        (Form(activate_output=True), "an activation at its end"),
    ],
)
def test_another_form_is_refused(tmp_path: Path, form: Form, words: str) -> None:
    write_hypernetwork(tmp_path / "sks.pt", made(form))
    with pytest.raises(InputError, match=f"sks.pt: .*not built as those of this run; .*{words}"):
        attached().start_from(tmp_path / "sks.pt")


def test_where_nothing_follows_a_layer_its_place_is_all_one(tmp_path: Path) -> None:
    """AUTOMATIC1111 writes activate_output into files whose activation is linear."""
    form = Form(activation="linear", activate_output=True)
    assert form.does_as(replace(form, activate_output=False)) and not form.does_as(Form(activate_output=True))
    write_hypernetwork(tmp_path / "sks.pt", made(form))
    attached(activation_func="linear").start_from(tmp_path / "sks.pt")


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    write_hypernetwork(tmp_path / "wide.pt", made(widths=(768, 1280)))
    with pytest.raises(InputError, match="is for contexts of the widths 768,1280, and the model has none"):
        attached().start_from(tmp_path / "wide.pt")
    torch.save({"a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "lora.pt")
    with pytest.raises(InputError, match="lora.pt is no hypernetwork"):
        attached().start_from(tmp_path / "lora.pt")
    assert listed((1, 1.5, 1.0)) == "1,1.5,1"


def test_a_state_of_another_form_is_refused() -> None:
    with pytest.raises(InputError, match="its layer_structure is another"):
        attached().load(attached(layer_structure=(1, 3, 1)).state_dict())
