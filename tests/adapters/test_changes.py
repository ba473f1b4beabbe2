"""Files of other trainers: every kind's change by its formula, and what is refused."""

import pytest
import torch
from torch import Tensor

from library.adapters.changes import Change, parse_changes, plain_layers, read_changes
from library.errors import InputError
from library.weights import save_tensors
from tests.adapters import foreign_files

STEM = "lora_unet_down_blocks_0_attentions_0_proj_in"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def parsed(**leaves: Tensor) -> Change:
    return parse_changes({f"{STEM}.{leaf.replace('__', '.')}": each for leaf, each in leaves.items()}, {}, "f")[STEM]


def without_its_core(change: Change, shape: tuple[int, ...]) -> None:
    """It is the same change, of the same rank and scale."""
    plain = change.coreless()
    assert (plain.rank, plain.scale) == (change.rank, change.scale) and plain.coreless() == plain
    assert not {"lora_mid.weight", "hada_t1", "hada_t2", "lokr_t2"} & plain.leaves.keys()
    torch.testing.assert_close(plain.of(torch.zeros(shape)), change.of(torch.zeros(shape)), rtol=1e-5, atol=1e-5)


def test_lora_with_a_core() -> None:
    down, mid, up = draw(2, 5, 1, 1), draw(2, 2, 3, 3), draw(4, 2, 1, 1)
    change = parsed(lora_down__weight=down, lora_mid__weight=mid, lora_up__weight=up, alpha=torch.tensor(1.0))
    without_its_core(change, (4, 5, 3, 3))
    expected = 0.5 * torch.einsum("om,mnkl,ni->oikl", up[:, :, 0, 0], mid, down[:, :, 0, 0])
    torch.testing.assert_close(change.of(torch.zeros(4, 5, 3, 3)), expected, rtol=1e-5, atol=1e-5)
    assert change.fits((4, 5, 3, 3)) and not change.fits((4, 6, 3, 3)) and change.rank == 2


def test_loha_with_cores() -> None:
    leaves = {"hada_t1": draw(2, 2, 3, 3), "hada_t2": draw(2, 2, 3, 3, seed=1)}
    for number in (1, 2):
        leaves |= {f"hada_w{number}_a": draw(2, 4, seed=number), f"hada_w{number}_b": draw(2, 5, seed=number)}
    one, two = (
        torch.einsum("ijkl,jr,ip->prkl", *(leaves[name] for name in (f"hada_t{n}", f"hada_w{n}_b", f"hada_w{n}_a")))
        for n in (1, 2)
    )
    change = parsed(**leaves, alpha=torch.tensor(4.0))
    torch.testing.assert_close(change.of(torch.zeros(4, 5, 3, 3)), 2 * one * two)
    assert change.fits((4, 5, 3, 3)) and change.shape == (4, 5, 3, 3)
    without_its_core(change, (4, 5, 3, 3))


@pytest.mark.parametrize("core", [False, True])
def test_lokr_is_torchs_kronecker_product(core: bool) -> None:
    first = draw(2, 3)
    leaves = {"lokr_w1": first, "alpha": torch.tensor(1.0)}
    if core:
        leaves |= {"lokr_t2": draw(2, 2, 3, 3), "lokr_w2_a": draw(2, 4), "lokr_w2_b": draw(2, 5)}
        second = torch.einsum("ijkl,jr,ip->prkl", leaves["lokr_t2"], leaves["lokr_w2_b"], leaves["lokr_w2_a"])
    else:
        leaves |= {"lokr_w2_a": draw(4, 2), "lokr_w2_b": draw(2, 45)}
        second = (leaves["lokr_w2_a"] @ leaves["lokr_w2_b"]).reshape(4, 5, 3, 3)
    change = parsed(**leaves)
    without_its_core(change, (8, 15, 3, 3))
    expected = 0.5 * torch.kron(first[:, :, None, None], second.contiguous())
    torch.testing.assert_close(change.of(torch.zeros(8, 15, 3, 3)), expected)
    assert change.fits((8, 15, 3, 3)) and not change.fits((8, 14, 3, 3))
    whole = parsed(lokr_w1=first, lokr_w2=second, alpha=torch.tensor(1.0))
    torch.testing.assert_close(whole.of(torch.zeros(8, 15, 3, 3)), 2 * expected)


@pytest.mark.parametrize("on_input", [0, 1])
def test_ia3_scales_outputs_or_inputs(on_input: int) -> None:
    weight, factors = draw(4, 6), draw(6 if on_input else 4)
    change = parsed(weight=factors, on_input=torch.tensor(on_input))
    expected = weight * (factors if on_input else factors[:, None])
    torch.testing.assert_close(change.of(weight), expected)
    assert change.fits((4, 6)) and not change.fits((7, 7))


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3, 3)])
@pytest.mark.parametrize("axis", [0, 1])
def test_dora_has_the_length_of_its_magnitudes(shape: tuple[int, ...], axis: int) -> None:
    """Of inputs, as every UI has it, and of outputs, as LyCORIS writes by default."""
    weight, ones = draw(*shape), (1,) * (len(shape) - 2)
    magnitude = draw(shape[axis], seed=3).abs() + 1
    leaf = magnitude.reshape(1, -1, *ones) if axis else magnitude.reshape(-1, 1, *ones)
    change = parsed(
        lora_down__weight=draw(2, *shape[1:]),
        lora_up__weight=draw(4, 2, *ones, seed=2),
        alpha=torch.tensor(2.0),
        dora_scale=leaf,
    )
    turned = weight + change.of(weight)
    found = turned.transpose(0, axis).flatten(1).norm(dim=1)
    torch.testing.assert_close(found, magnitude)
    assert change.plain() is None


def test_differences_of_weights_biases_and_norms(tmp_path) -> None:
    tensors = {f"{STEM}.diff": draw(4, 6), f"{STEM}.diff_b": draw(4)}
    norm = "lora_unet_down_blocks_0_attentions_0_norm"
    tensors |= {f"{norm}.w_norm": draw(4), f"{norm}.b_norm": draw(4, seed=1)}
    save_tensors(tmp_path / "a.safetensors", tensors)
    found = read_changes(tmp_path / "a.safetensors")
    assert torch.equal(found[STEM].of(torch.ones(4, 6, 1, 1)), tensors[f"{STEM}.diff"].reshape(4, 6, 1, 1))
    assert torch.equal(found[STEM].bias, tensors[f"{STEM}.diff_b"])
    assert torch.equal(found[norm].bias, tensors[f"{norm}.b_norm"]) and found[norm].fits((4,))


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        ({"hada_w1_a": draw(4, 2), "hada_w1_b": draw(2, 6)}, "incomplete.*lacks the rest"),
        ({"lokr_w1": draw(2, 3), "surprise": draw(2)}, 'has the key ".*surprise"'),
        ({"diff_b": draw(4)}, "incomplete"),
        ({"oft_blocks": draw(2, 4, 4)}, "oft_blocks"),
        ({"w_norm": draw(4)}, "incomplete"),
    ],
)
def test_what_is_not_understood_is_refused(leaves: dict[str, Tensor], words: str) -> None:
    with pytest.raises(InputError, match=words):
        parsed(**leaves)


def test_a_file_of_other_kinds_is_no_plain_lora() -> None:
    files = {"a": foreign_files.lora()[0], "b": foreign_files.loha()[0], "c": foreign_files.lokr_full()[0]}
    tensors = {f"lora_unet_{stem}.{leaf}": each for stem, leaves in files.items() for leaf, each in leaves.items()}
    with pytest.raises(InputError, match="mine has 1 layer of LoHa, 1 layer of LoKr, .* plain LoRA can be resized"):
        plain_layers(parse_changes(tensors, {}, "mine"), "mine", "resized")
    only = {key: each for key, each in tensors.items() if key.startswith("lora_unet_a.")}
    [layer] = plain_layers(parse_changes(only, {}, "mine"), "mine", "resized").values()
    down, up, alpha = (files["a"][leaf] for leaf in ("lora_down.weight", "lora_up.weight", "alpha"))
    assert torch.equal(layer.down, down) and torch.equal(layer.up, up) and layer.alpha == pytest.approx(float(alpha))
