"""Frozen layers against the plain ones: same outputs, same gradients, less kept, and never a stale copy."""

import copy
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import library.frozen
from library.frozen import FrozenConv2d, FrozenLayer, FrozenLinear, FrozenPointwise, frozen_linear, use_frozen_layers

LAYERS = {
    "linear": (lambda: nn.Linear(48, 32), (2, 5, 48), FrozenLinear),
    "no bias": (lambda: nn.Linear(48, 32, bias=False), (7, 48), FrozenLinear),
    "3x3": (lambda: nn.Conv2d(32, 48, 3, padding=1), (2, 32, 6, 9), FrozenConv2d),
    "uneven": (lambda: nn.Conv2d(32, 16, (3, 1), padding=(2, 0), bias=False), (1, 32, 4, 4), FrozenConv2d),
    "1x1": (lambda: nn.Conv2d(32, 48, 1), (2, 32, 4, 6), FrozenPointwise),
    "half the pixels": (lambda: nn.Conv2d(32, 32, 3, stride=2, padding=1), (2, 32, 8, 11), FrozenConv2d),
    "a third of the columns": (lambda: nn.Conv2d(16, 32, 2, stride=(1, 3)), (1, 16, 5, 10), FrozenConv2d),
}
PLAIN = {
    "groups": lambda: nn.Conv2d(32, 32, 3, padding=1, groups=2),
    "dilation": lambda: nn.Conv2d(32, 32, 3, dilation=2),
    "narrow": lambda: nn.Conv2d(8, 32, 3, padding=1),
    "wide padding": lambda: nn.Conv2d(32, 32, 1, padding=1),
    "padding by name": lambda: nn.Conv2d(32, 32, 3, padding="same"),
    "reflected": lambda: nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"),
    "double": lambda: nn.Linear(32, 32).double(),
    "half": lambda: nn.Linear(32, 32).half(),
    "another class": lambda: nn.modules.linear.NonDynamicallyQuantizableLinear(32, 32),
}


@pytest.fixture(autouse=True)
def _small_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.frozen, "WIDE", 16)


@pytest.fixture(params=LAYERS)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, Tensor, type]]:
    torch.manual_seed(0)
    make, shape, kind = LAYERS[request.param]
    yield make().requires_grad_(False), torch.randn(shape), kind


def answers(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, int]:
    """The output, the gradient of the inputs for a random one of the output, and how many tensors autograd kept."""
    x, kept = x.clone().requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(5)).to(y.dtype))
    return y.detach(), x.grad, len(kept)


def close(one: Tensor, other: Tensor, by: float) -> bool:
    return bool((one - other).norm() <= by * other.norm())


@pytest.mark.parametrize(("dtype", "by"), [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)])
def test_answers_are_those_of_the_plain_layer(case, dtype, by) -> None:
    layer, x, kind = case
    layer, x = layer.to(dtype), x.to(dtype)
    plain = copy.deepcopy(layer)
    use_frozen_layers([layer])
    if dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        assert type(layer.forward) is kind
    (y, dx, kept), (right, right_dx, usually_kept) = answers(layer, x), answers(plain, x)
    assert y.dtype == dtype and close(y, right, by)
    assert close(dx, right_dx, by)
    assert torch.equal(layer(x), y)  # without autograd too
    assert kept == 0 < usually_kept


def test_names_weights_and_classes_stay(case) -> None:
    layer, _, _ = case
    before, kind = {name: each.clone() for name, each in layer.state_dict().items()}, type(layer)
    use_frozen_layers([layer])
    after = layer.state_dict()
    assert type(layer) is kind and after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("name", PLAIN)
def test_what_gains_nothing_stays_as_it_is(name) -> None:
    layer = PLAIN[name]().requires_grad_(False)
    use_frozen_layers([layer])
    assert not isinstance(layer.forward, FrozenLayer)


def test_what_learns_stays_as_it_is() -> None:
    half = nn.Linear(32, 32)
    half.weight.requires_grad_(False)
    learning = nn.Sequential(nn.Conv2d(32, 32, 3), half)
    use_frozen_layers([learning])
    assert not any(isinstance(each.forward, FrozenLayer) for each in learning)
    assert frozen_linear(half) is None


def test_a_layer_that_learns_later_gets_its_gradient() -> None:
    layer = nn.Conv2d(32, 32, 3).requires_grad_(False)
    use_frozen_layers([layer])
    layer.requires_grad_(True)
    layer(torch.randn(1, 32, 4, 4)).sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.abs().sum() > 0


def test_a_changed_weight_is_followed(case) -> None:
    layer, x, _ = case
    plain = copy.deepcopy(layer)
    use_frozen_layers([layer])
    with torch.no_grad():
        layer.weight.mul_(-2)
        plain.weight.mul_(-2)
    (y, dx, _), (right, right_dx, _) = answers(layer, x), answers(plain, x)
    assert close(y, right, 2e-6) and close(dx, right_dx, 2e-6)


def test_autocast_and_other_formats_are_left_to_the_layer() -> None:
    layer = nn.Linear(32, 32).requires_grad_(False)
    use_frozen_layers([layer])
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 32)).dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="dtype"):
        layer(torch.randn(2, 32, dtype=torch.float64))


def test_tensors_without_data_have_the_right_shape_and_keep_nothing(case) -> None:
    layer, x, _ = case
    right = layer(x).shape
    use_frozen_layers([layer])
    kept: list[Tensor] = []
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autograd.graph.saved_tensors_hooks(kept.append, lambda t: t):
        assert layer(torch.empty(x.shape, requires_grad=True)).shape == right
    assert kept == []


def test_copies_take_a_third_of_the_machine_at_most(monkeypatch) -> None:
    size = 2 * 4 * 32 * 32  # two copies of one layer

    def is_packed(memory: int, processes: int = 1) -> bool:
        monkeypatch.setattr(library.frozen.psutil, "virtual_memory", lambda: SimpleNamespace(total=memory))
        layer = nn.Linear(32, 32).requires_grad_(False)
        use_frozen_layers([layer], processes=processes)
        return isinstance(layer.forward, FrozenLayer)

    assert is_packed(3 * size) and is_packed(6 * size, 2)
    assert not is_packed(3 * size - 3) and not is_packed(3 * size, 2)


def test_one_copy_will_do(monkeypatch) -> None:
    monkeypatch.setattr(library.frozen.psutil, "virtual_memory", lambda: SimpleNamespace(total=3 * 4 * 32 * 32))
    layer = nn.Linear(32, 32).requires_grad_(False)
    use_frozen_layers([layer], ["ahead"])
    assert list(layer.forward._copies) == ["ahead"]
    assert answers(layer, torch.randn(1, 32))[1].shape == (1, 32)  # the other is made when it is needed


def test_without_onednn_nothing_is_changed(monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    layer = nn.Linear(32, 32).requires_grad_(False)
    use_frozen_layers([layer])
    assert frozen_linear(layer) is None
