"""What norms and activations made is made again: the same gradients to the bit, and less that is kept."""

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn

from library.models.family import open_family
from library.recompute import GatedGelu, Recipes, ThriftyGEGLU, View, keep_no_cheap_tensors, recipes_of


@pytest.fixture
def unet(toy_model: Path) -> nn.Module:
    """The toy's, all of which learns."""
    return open_family(str(toy_model)).load_unet(torch.float32).train()


def inputs(unet: nn.Module) -> dict[str, Tensor]:
    """Two noisy latents and what else the UNet takes."""
    draw = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(2, 4, 8, 8, generator=draw),
        "timestep": torch.tensor([5, 700]),
        "encoder_hidden_states": torch.randn(2, 77, unet.config.cross_attention_dim, generator=draw),
    }


def gradients(unet: nn.Module, rounding: torch.dtype | None = None) -> tuple[dict[str, Tensor], int]:
    """Those of one answer, and the bytes that outer hooks and recipes saw kept."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    unet.zero_grad()
    if recipes := recipes_of(unet):
        recipes.watch = lambda tensor, _: keep(tensor)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=rounding or torch.bfloat16, enabled=rounding is not None),
    ):
        answer = unet(**inputs(unet)).sample
    answer.float().pow(2).mean().backward()
    weights = {each.untyped_storage()._cdata for each in unet.parameters()}
    found = {name: each.grad.clone() for name, each in unet.named_parameters() if each.grad is not None}
    return found, sum(each.untyped_storage().nbytes() for place, each in kept.items() if place not in weights)


@pytest.mark.parametrize("rounding", [None, torch.bfloat16])
@pytest.mark.parametrize("whole", [True, False])
def test_the_same_gradients_from_less(unet: nn.Module, rounding: torch.dtype | None, whole: bool) -> None:
    """Where all weights learn, and where only some that are fed by norms and gates do."""
    for name, weight in unet.named_parameters():
        weight.requires_grad_(whole or "to_q" in name or "net.2" in name or "conv2" in name)
    names = list(unet.state_dict())
    plain, before = gradients(unet, rounding)
    keep_no_cheap_tensors(unet)
    assert list(unet.state_dict()) == names
    thrifty, after = gradients(unet, rounding)
    assert plain.keys() == thrifty.keys() and len(plain) > 10
    assert all(torch.equal(plain[name], thrifty[name]) for name in plain)
    # Under autocast what a norm made is rounded into a tensor of its own, which no norm knows.
    assert after < (0.75 if rounding is None else 0.9) * before
    recipes_of(unet).turn(False)
    kept_again, like_before = gradients(unet, rounding)
    assert like_before == before and all(torch.equal(plain[name], kept_again[name]) for name in plain)


def test_gates_keep_their_input_alone() -> None:
    layer = GEGLU(6, 5)
    x = torch.randn(2, 3, 6, requires_grad=True)
    ours = ThriftyGEGLU(layer.proj)
    (plain,) = torch.autograd.grad(layer(x).pow(2).sum(), x)
    answer = ours(x)
    assert torch.equal(answer, layer(x))
    assert torch.equal(torch.autograd.grad(answer.pow(2).sum(), x)[0], plain)
    double = torch.randn(2, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(GatedGelu(), (double,))
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        GatedGelu()(double)
    assert [each.shape for each in saved] == [double.shape]


def block_of(*layers: nn.Module) -> tuple[nn.Module, Recipes]:
    block, recipes = nn.Sequential(*layers), Recipes()
    recipes.use_in(block)
    return block, recipes


def test_a_chain_is_made_again_from_its_start() -> None:
    """What a convolution was given: the activation of a norm of the block's input."""
    kept: list[tuple[Tensor, int]] = []
    block, recipes = block_of(nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1))
    recipes.watch = lambda tensor, again: kept.append((tensor, again))
    x = torch.randn(1, 4, 5, 5)
    block(x).sum().backward()
    assert [again for tensor, again in kept if tensor.data_ptr() == x.data_ptr()][-2:] == [x.nbytes, x.nbytes]
    plain = nn.Sequential(*copy.deepcopy(list(block)))
    assert all(not each._forward_hooks or each is not block for each in plain.modules())
    grads = [each.grad.clone() for each in block.parameters()]
    recipes.turn(False)
    block.zero_grad()
    block(x).sum().backward()
    assert all(torch.equal(one, other.grad) for one, other in zip(grads, block.parameters(), strict=True))


def test_views_are_given_back_as_they_were() -> None:
    block, recipes = block_of(nn.LayerNorm(6))
    views: list[View] = []
    pack = recipes._pack
    x = torch.randn(2, 4, 6, requires_grad=True)
    recipes._begin()
    made = block[0](x)
    for view in (made, made[1:], made.transpose(0, 1), made.reshape(8, 6)[:, 2:4]):
        kept = pack(view)
        assert isinstance(kept, View)
        views.append(kept)
        assert torch.equal(recipes._unpack(kept), view) and recipes._unpack(kept).stride() == view.stride()
    recipes._end()
    assert all(one.recipe is other.recipe for one, other in pairwise(views))


def test_what_was_changed_meanwhile_is_not_used() -> None:
    block, _ = block_of(nn.LayerNorm(4), nn.Linear(4, 4))
    x = torch.randn(3, 4)
    answer = block(x * 1).sum()
    answer.backward()
    changed = torch.randn(3, 4)
    answer = block(changed).sum()
    changed.add_(1)
    with pytest.raises(RuntimeError, match="was changed before the backward pass"):
        answer.backward()


def test_nothing_is_done_without_gradients_or_after_a_failure(unet: nn.Module) -> None:
    keep_no_cheap_tensors(unet)
    recipes = recipes_of(unet)
    seen: list[Tensor] = []
    recipes.watch = lambda tensor, _: seen.append(tensor)
    with torch.no_grad():
        unet(**inputs(unet))
    assert not seen and not recipes._known
    wrong = inputs(unet) | {"encoder_hidden_states": torch.randn(2, 77, 3)}
    with pytest.raises(RuntimeError):
        unet(**wrong)
    assert not recipes._known
    seen.clear()
    (torch.randn(3, requires_grad=True) ** 2).sum().backward()
    assert not seen, "its hooks are gone"
