"""Cores of convolutions: fewer numbers to learn, and files that are exactly what they were without."""

import pytest
import torch
from torch import nn

from library.adapters.changes import folded
from library.adapters.kinds import Options, Size
from library.adapters.lora import LORA
from library.adapters.merged import load_adapters
from library.adapters.tucker import TUCKER, unfolded
from library.errors import InputError
from tests.adapters.small import PARTS, answers, attached, gradients, small_layers, small_model, written

KINDS = {
    "lora": {"lora_down.weight", "lora_up.weight", "alpha"},
    "loha": {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"},
    "lokr": {"lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"},
}
SQUARE = "lora_unet_down_blocks_0_resnets_0_conv1"
OPTIONS = Options(arguments={"use_tucker": True, "factor": 2})
PLAIN = Options(arguments={"factor": 2})


def test_a_core_is_a_convolution_between_two_others() -> None:
    """1x1, then the core, then 1x1: as LyCORIS computes lora_mid."""
    core, right, left = torch.randn(3, 3, 3, 3), torch.randn(3, 5), torch.randn(7, 3)
    x = torch.randn(2, 5, 6, 6)
    inner = nn.functional.conv2d(nn.functional.conv2d(x, right[..., None, None]), core, padding=1)
    expected = nn.functional.conv2d(inner, left[..., None, None])
    whole = torch.einsum("or,rikl->oikl", left, folded(core, right))
    torch.testing.assert_close(nn.functional.conv2d(x, whole, padding=1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_at_the_start_and_all_learns(kind: str) -> None:
    modules = small_model()
    before = answers(modules)
    network = attached(kind, modules, options=OPTIONS, dim=1)
    with torch.no_grad():
        assert all(torch.allclose(answers(modules)[part], before[part], atol=1e-6) for part in PARTS)
    own = network.layers["unet"][SQUARE]
    start = [each.detach().clone() for each in own.parameters(recurse=False)]
    for module in modules.values():
        module.train()
    optimizer = torch.optim.Adam([each for part in PARTS for each in network.parameters(part)], lr=0.01)
    for _ in range(12):
        gradients(network, modules)
        optimizer.step()
    learned = list(own.parameters(recurse=False))
    assert len(learned) >= 3 and not any(torch.equal(one, two) for one, two in zip(start, learned, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_files_are_those_of_the_kind_without(kind: str, tmp_path) -> None:
    modules = small_model()
    network = attached(kind, modules, noise=0.3, options=OPTIONS, dim=1)
    expected, base = answers(modules), small_model()
    found = written(network, tmp_path / "a.safetensors")
    load_adapters([(tmp_path / "a.safetensors", 1.0)], base, small_layers(base))
    for part in PARTS:
        assert torch.allclose(answers(base)[part], expected[part], rtol=1e-4, atol=1e-4), part
    assert set(found[SQUARE].leaves) == KINDS[kind]
    own = network.layers["unet"][SQUARE]
    torch.testing.assert_close(found[SQUARE].of(own.weight), own.change(), rtol=1e-5, atol=1e-6)
    plain = attached(kind, small_model(), options=PLAIN, dim=1)
    shapes = {name: tensor.shape for name, tensor in plain.export().items()}
    assert {name: tensor.shape for name, tensor in network.export().items()} == shapes


@pytest.mark.parametrize(("kind", "fewer"), [("lora", True), ("loha", True), ("lokr", True)])
def test_convolutions_learn_with_fewer_numbers(kind: str, fewer: bool) -> None:
    counts = []
    for options in (OPTIONS, PLAIN):
        network = attached(kind, small_model(), options=options, dim=2)
        counts.append(sum(each.numel() for each in network.by_layer("unet")[SQUARE]))
    assert (counts[0] < counts[1]) == fewer, counts


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_run_goes_on_exactly(kind: str) -> None:
    modules = small_model()
    network = attached(kind, modules, noise=0.2, options=OPTIONS, dim=1)
    state, expected = network.state_dict(), answers(modules)
    network.detach()
    again = attached(kind, modules, seed=9, noise=0.4, options=OPTIONS, dim=1)
    again.load(state)
    assert all(torch.equal(expected[part], answer) for part, answer in answers(modules).items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_file_is_the_start_with_its_core_found_again(kind: str, dtype: torch.dtype, tmp_path) -> None:
    """What is written has it multiplied out; the change is the same but for the file's rounding."""
    modules = small_model()
    first = attached(kind, modules, noise=0.3, options=OPTIONS, dim=2)
    found, own = written(first, tmp_path / "a.safetensors", dtype), first.layers["unet"][SQUARE]
    assert not any(core in leaf for leaf in found[SQUARE].leaves for core in ("mid", "_t1", "_t2"))
    again = attached(kind, small_model(), seed=9, noise=0.4, options=OPTIONS, dim=2, alpha=1.5)
    again.start_from(tmp_path / "a.safetensors")
    layer, last_bit = again.layers["unet"][SQUARE], torch.finfo(dtype).eps
    for stem, each in first.layers["unet"].items():
        difference = (again.layers["unet"][stem].change() - each.change()).norm() / each.change().norm()
        assert difference <= 3 * last_bit, stem
    core = next(each for name, each in layer.named_parameters(recurse=False) if name in ("core", "hada_t2", "lokr_t2"))
    assert core.shape[:2] == (2, 2) and bool(core.any()) and not torch.equal(layer.change(), own.change())


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_file_trained_without_a_core_is_refused(kind: str, tmp_path) -> None:
    written(attached(kind, small_model(), noise=0.3, options=PLAIN, dim=1), tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"a.safetensors: .*trained with use_tucker and has no core of rank 1; leave"):
        attached(kind, small_model(), options=OPTIONS, dim=1).start_from(tmp_path / "a.safetensors")


@torch.no_grad()
def test_more_ranks_than_inputs() -> None:
    """The rest of the core is zero."""
    core, right = torch.randn(5, 5, 3, 3), torch.randn(5, 2)
    whole = folded(core, right)
    found = unfolded(whole, core, right)
    torch.testing.assert_close(folded(*found), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1][:2] @ found[1][:2].T, torch.eye(2), rtol=1e-5, atol=1e-5)
    assert [each.shape for each in found] == [core.shape, right.shape] and not found[1][2:].any()


@torch.no_grad()
def test_its_two_steps_are_the_change() -> None:
    layer = TUCKER.inject(nn.Sequential(nn.Conv2d(6, 8, 3, padding=1)), {"0": Size(3, 2.0)}, OPTIONS)["0"]
    TUCKER.start(layer, 1)
    layer.up.copy_(torch.randn(layer.up.shape))
    x = torch.randn(2, 6, 5, 5)
    torch.testing.assert_close(layer.side(x), layer.apply_weight(x, layer.change()), rtol=1e-4, atol=1e-5)
    assert LORA.fitted(OPTIONS) is TUCKER and LORA.fitted(PLAIN) is LORA
    assert [name for name, _ in layer.named_parameters(recurse=False)] == ["up", "first", "core"]
