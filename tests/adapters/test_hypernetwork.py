"""Hypernetworks on a UNet: where they begin, what learns, what they compute, and that nothing is left of them."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from library.adapters.hypernetwork import ContextLayer, ContextNetwork, Form, networks_of, readers_of
from library.adapters.kinds import Options
from library.adapters.network import Network, attach
from library.errors import InputError
from library.lookup import ACTIVATIONS, resolve

TEXT, PIXELS = 12, 8
STEMS = {f"blocks.{n}.attn{m}.to_{w}": f"lora_unet_{n}_attn{m}_to_{w}" for n in (0, 1) for m in (1, 2) for w in "kv"}


class Attention(nn.Module):
    """Keys and values of a context, and queries."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, PIXELS) for width in (PIXELS, context, context))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        scores = self.to_q(x) @ self.to_k(context).transpose(1, 2)
        return functional.softmax(scores, -1) @ self.to_v(context)


class Block(nn.Module):
    """Attention to itself and to a text."""

    def __init__(self) -> None:
        super().__init__()
        self.attn1, self.attn2 = Attention(PIXELS), Attention(TEXT)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        x = x + self.attn1(x, x)
        return x + self.attn2(x, text)


class SmallUnet(nn.Module):
    """Two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.checkpointing = nn.ModuleList([Block(), Block()]), False

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, text, use_reentrant=False) if self.checkpointing else block(x, text)
        return x


@pytest.fixture
def unet() -> SmallUnet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SmallUnet().eval()


def attached(unet: nn.Module, noise: float = 0.0, seed: int = 5, **options: object) -> Network:
    """A hypernetwork on all its attention; with `noise`, everything that learns is moved."""
    network = attach("hypernetwork", {"unet": unet}, {"unet": STEMS}, 4, 2.0, seed, Options(**options))
    generator = torch.Generator().manual_seed(seed)
    for each in network.parameters("unet"):
        each.data += noise * torch.randn(each.shape, generator=generator)
    return network


def answer(unet: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x, text = torch.randn(2, 5, PIXELS, generator=generator), torch.randn(2, 3, TEXT, generator=generator)
    found: Tensor = unet(x.to(dtype), text.to(dtype))
    return found


@torch.no_grad()
def test_nothing_changes_at_the_start_and_nothing_is_left(unet: SmallUnet) -> None:
    before, names = answer(unet), [name for name, _ in unet.named_modules()]
    network = attached(unet)
    assert torch.equal(answer(unet), before)
    assert sum(isinstance(layer, ContextLayer) for layer in unet.modules()) == len(STEMS) == 8
    network.detach()
    assert torch.equal(answer(unet), before) and [name for name, _ in unet.named_modules()] == names


def test_layers_of_one_width_share_their_networks(unet: SmallUnet) -> None:
    """Two widths, each with one network for keys and one for values: 4 pairs of matrices, not 8."""
    assert set(readers_of(unet).values()) == {PIXELS, TEXT} and len(readers_of(unet)) == 8
    network = attached(unet, arguments={"layer_structure": (1, 3, 1)})
    assert [(reader, each.width) for reader, each in networks_of(network.layers["unet"])] == [
        ("to_k", PIXELS),
        ("to_v", PIXELS),
        ("to_k", TEXT),
        ("to_v", TEXT),
    ]
    shapes = [tuple(each.shape) for each in network.parameters("unet")]
    assert shapes[:4] == [(24, 8), (24,), (8, 24), (8,)] and len(shapes) == 16
    assert set(network.layers["unet"]) == {STEMS[path] for path in list(STEMS)[:4]}


def test_every_parameter_learns_and_nothing_else(unet: SmallUnet) -> None:
    network = attached(unet)
    learning = {id(each) for each in network.parameters("unet")}
    assert {id(each) for each in unet.parameters() if each.requires_grad} == learning
    before = {id(each): each.detach().clone() for each in unet.parameters()}
    optimizer = torch.optim.Adam(network.parameters("unet"), lr=0.01)
    for _ in range(12):
        optimizer.zero_grad()
        (answer(unet) * torch.linspace(-1, 1, 80).view(2, 5, PIXELS)).sum().backward()
        optimizer.step()
    assert {id(each) for each in unet.parameters() if not torch.equal(each, before[id(each)])} == learning


@pytest.mark.parametrize("activation", ACTIVATIONS)
@torch.no_grad()
def test_keys_and_values_are_of_the_changed_context(unet: SmallUnet, activation: str) -> None:
    """W (x + F(x)) + b, derived from the matrices alone."""
    network = attached(unet, 0.2, arguments={"activation_func": activation})
    (_, keys), (_, values) = networks_of(network.layers["unet"])[2:]
    context = torch.randn(2, 3, TEXT, generator=torch.Generator().manual_seed(3))
    function = resolve(ACTIVATIONS[activation])()
    for each, layer in ((keys, unet.blocks[1].attn2.to_k), (values, unet.blocks[1].attn2.to_v)):
        first, second = each.matrices
        inner = function(context @ first.weight.T + first.bias)
        changed = context + inner @ second.weight.T + second.bias
        expected = changed @ layer.base_layer.weight.T + layer.base_layer.bias
        assert torch.allclose(layer(context), expected, atol=1e-5)
        assert not torch.allclose(layer.base_layer(context), expected, atol=1e-1)
    assert len(ACTIVATIONS) >= 9


@torch.no_grad()
def test_strengths_multiply_and_zero_is_none(unet: SmallUnet) -> None:
    before = answer(unet)
    network = attached(unet, 0.2)
    layer, x = unet.blocks[0].attn2.to_k, torch.randn(1, 3, TEXT, generator=torch.Generator().manual_seed(4))
    base = layer.base_layer(x)
    whole = layer(x) - base
    with network.scaled(0.5):
        assert torch.allclose(layer(x) - base, whole / 2, atol=1e-6)
    assert torch.allclose(layer(x) - base, whole, atol=1e-7) and whole.abs().max() > 0.05
    with network.scaled(0.0):
        assert torch.equal(answer(unet), before)
    with network.disabled():
        assert torch.equal(answer(unet), before)
    assert not torch.allclose(answer(unet), before, atol=1e-2)


@torch.no_grad()
def test_several_are_passed_one_after_the_other(unet: SmallUnet) -> None:
    """The second reads what the first has made of the context, as in AUTOMATIC1111."""
    pair = [ContextNetwork(TEXT, Form()), ContextNetwork(TEXT, Form((1, 1), "linear"))]
    for number, each in enumerate(pair):
        each.strength = 0.5 + number
        for parameter in each.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.3)
    x, base = torch.randn(1, 3, TEXT, generator=torch.Generator().manual_seed(4)), nn.Linear(TEXT, 4)
    once = x + pair[0](x)
    expected = base(once + pair[1](once))
    assert torch.allclose(ContextLayer(base, pair)(x), expected, atol=1e-5)
    assert not torch.allclose(ContextLayer(base, pair[::-1])(x), expected, atol=1e-2)


@torch.no_grad()
def test_a_run_goes_on_exactly(unet: SmallUnet) -> None:
    network = attached(unet, 0.1)
    state, expected = network.state_dict(), answer(unet)
    network.detach()
    again = attached(unet, 0.3, seed=9)
    assert not torch.equal(answer(unet), expected)
    again.load(state)
    assert torch.equal(answer(unet), expected) and again.state_dict().keys() == state.keys()
    again.detach()
    with pytest.raises(InputError, match="layer_structure is another"):
        attached(unet, arguments={"layer_structure": (1, 3, 1)}).load(state)


def test_gradients_are_the_same_with_checkpointing(unet: SmallUnet) -> None:
    network = attached(unet, 0.1, dropout=0.3)
    unet.train()
    found = []
    for unet.checkpointing in (False, True):
        torch.manual_seed(3)
        (answer(unet) ** 2).sum().backward()
        found.append([each.grad.clone() for each in network.parameters("unet")])
        for each in network.parameters("unet"):
            each.grad = None
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@torch.no_grad()
def test_dropout_works_in_training_alone(unet: SmallUnet) -> None:
    attached(unet, 0.3, dropout=0.5)
    assert torch.equal(answer(unet), answer(unet))
    unet.train()
    assert not torch.equal(answer(unet), answer(unet))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_small_changes_are_not_lost_in_half_precision(unet: SmallUnet, dtype: torch.dtype) -> None:
    """A change of a thousandth of the context is less than half of its last bit in bfloat16."""
    network = attached(unet.to(dtype))
    assert {each.dtype for each in network.parameters("unet")} == {torch.float32}
    layer = unet.blocks[0].attn2.to_v
    [(_, values)] = networks_of({STEMS["blocks.0.attn2.to_v"]: network.layers["unet"][STEMS["blocks.0.attn2.to_v"]]})
    values.matrices[-1].bias.fill_(1e-3)
    x = torch.full((1, 1, TEXT), 2.0, dtype=dtype)
    change = layer(x).float() - layer.base_layer(x).float()
    expected = 1e-3 * layer.base_layer.weight.float().sum(1)
    last_bit = 2.0 ** (-8 if dtype == torch.bfloat16 else -11)
    assert layer(x).dtype == dtype and torch.equal(x + values(x), x) == (dtype == torch.bfloat16)
    assert (change - expected).abs().max() <= last_bit * layer(x).abs().max() * 2


@torch.no_grad()
def test_start_values_are_the_same_whatever_else_is_there(unet: SmallUnet) -> None:
    first = attached(unet).state_dict()
    assert all(torch.equal(first[name], tensor) for name, tensor in attached(SmallUnet()).state_dict().items())
    last = [tensor for name, tensor in first.items() if ".linear.2." in name]
    assert len(last) == 8 and not any(tensor.any() for tensor in last)
    assert all(tensor.any() for name, tensor in first.items() if name.endswith("linear.0.weight"))


def test_what_it_has_not(unet: SmallUnet) -> None:
    network = attached(unet)
    assert network.faster("unet") == []
    with pytest.raises(TypeError, match="no two matrices"):
        network.weights()
