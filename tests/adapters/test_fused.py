"""The fused layer against PEFT's own, and where it steps aside."""

import copy

import pytest
import torch
from bitsandbytes.nn import Linear8bitLt
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import library.frozen
from library.adapters.fused import FusedLinear, SidePath, use_fused_layers

SHAPES = [(5, 12), (2, 7, 12), (2, 3, 4, 12), (0, 12)]


class Tiny(nn.Module):
    """Two linear layers, one without bias, and something between them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 20, bias=False), nn.Linear(20, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.nn.functional.silu(self.first(x)))


def adapted(base: nn.Module, fused: bool, rank: int = 3, dropout: float = 0.0) -> nn.Module:
    """A copy of `base` with LoRA layers whose B is not zero."""
    config = LoraConfig(r=rank, lora_alpha=2.0, lora_dropout=dropout, target_modules=["first", "second"])
    if fused:
        use_fused_layers(config)
    model = inject_adapter_in_model(config, copy.deepcopy(base))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora" in name:
            nn.init.normal_(parameter, std=0.3)
    return model


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What a loss gives to everything that learns, and the output."""
    model.zero_grad()
    answer = model(x)
    (answer.float() * torch.linspace(-1, 1, answer.numel()).view(answer.shape)).sum().backward()
    found = {name: each.grad for name, each in model.named_parameters() if each.requires_grad}
    return {**found, "output": answer.detach()}


@pytest.fixture
def base() -> nn.Module:
    torch.manual_seed(0)
    return Tiny()


@pytest.mark.parametrize("frozen", [False, True], ids=["", "frozen"])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_peft(
    base: nn.Module, shape: tuple[int, ...], frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library.frozen, "WIDE", 1)
    x, own = (torch.randn(shape, generator=torch.Generator().manual_seed(2)).requires_grad_() for _ in range(2))
    expected, found = gradients(adapted(base, False), x), gradients(adapted(base, True), own)
    assert expected.keys() == found.keys() and len(found) == 5
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=2e-6, msg=name)
    torch.testing.assert_close(own.grad, x.grad, rtol=1e-6, atol=2e-6)


def test_gradients_are_right_by_finite_differences() -> None:
    x, weight, bias, down, up = (
        torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
        for shape in ((2, 3, 6), (5, 6), (5,), (2, 6), (5, 2))
    )
    learning, base = [each.requires_grad_() for each in (x, down, up)], nn.Linear(6, 5)
    base.weight, base.bias = nn.Parameter(weight, requires_grad=False), nn.Parameter(bias, requires_grad=False)
    assert torch.autograd.gradcheck(lambda a, b, c: SidePath.apply(a, base, b, c, 0.7), learning)


def test_nothing_is_computed_for_inputs_that_do_not_learn(base: nn.Module) -> None:
    model = adapted(base, True)
    found = gradients(model, torch.randn(4, 12))
    assert all(value.abs().sum() > 0 for value in found.values())


def test_checkpointing_changes_nothing(base: nn.Module) -> None:
    model, x = adapted(base, True), torch.randn(4, 12)
    plain = gradients(model, x)
    again = gradients(nn.Sequential(Checkpointed(model)), x)
    names = {name: name if name == "output" else f"0.inner.{name}" for name in plain}
    assert all(torch.equal(value, again[names[name]]) for name, value in plain.items())


class Checkpointed(nn.Module):
    """A model whose activations are computed twice."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False)


def test_half_precision_keeps_the_matrices_in_float32(base: nn.Module) -> None:
    model, x = adapted(base, True), torch.randn(64, 12)
    exact = gradients(model, x)
    model.bfloat16()
    for name, parameter in model.named_parameters():
        if "lora" in name:
            parameter.data = parameter.data.float()
    rough = gradients(model, x.bfloat16())
    assert rough["output"].dtype == torch.bfloat16
    for name, value in exact.items():
        assert name == "output" or rough[name].dtype == torch.float32
        error = (rough[name].float() - value).norm() / value.norm()
        assert 0 < error < 0.03, name


def test_only_inputs_and_inner_products_are_kept(base: nn.Module) -> None:
    def kept(model: nn.Module) -> int:
        sizes: dict[int, int] = {}
        parameters = {each.data_ptr() for each in model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            if tensor.data_ptr() not in parameters:
                sizes[tensor.untyped_storage().data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer = model(x)
        return sum(sizes.values()) + 0 * answer.numel()

    x = torch.randn(10, 12, requires_grad=True)
    assert kept(adapted(base, True).first) == 10 * (12 + 3)


@pytest.mark.parametrize("aside", ["disabled", "dropout", "autocast", "other format"])
def test_it_steps_aside(base: nn.Module, aside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> Tensor:
        raise AssertionError("the fused path was taken")

    monkeypatch.setattr(SidePath, "apply", forbidden)
    model = adapted(base, True, dropout=0.5 if aside == "dropout" else 0.0).train()
    x = torch.randn(4, 12)
    if aside == "disabled":
        for layer in (model.first, model.second):
            layer.enable_adapters(False)
        torch.testing.assert_close(model(x), base(x))
    elif aside == "dropout":
        assert not torch.equal(model(x), model(x))
    elif aside == "autocast":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert model(x).dtype == torch.bfloat16
    else:
        with pytest.raises(RuntimeError, match="dtype"):
            model(x.double())


def test_the_layers_are_those_that_peft_asked_for(base: nn.Module) -> None:
    model = adapted(base, True)
    assert type(model.first) is type(model.second) is FusedLinear
    assert model.state_dict().keys() == adapted(base, False).state_dict().keys()


def test_quantised_layers_are_left_to_peft(base: nn.Module) -> None:
    base.second = Linear8bitLt(20, 9)
    model = adapted(base, True)
    assert type(model.first) is FusedLinear and not isinstance(model.second, FusedLinear)
