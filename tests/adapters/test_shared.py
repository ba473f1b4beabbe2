"""Layers computed as one against the same one by one: outputs, gradients, names, memory, and what is left alone."""

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import library.frozen
import library.quantised
from library.adapters import shared
from library.adapters.kinds import Options
from library.adapters.merged import load_adapters
from library.adapters.metadata import save_adapter
from library.adapters.network import Network
from library.adapters.shared import (
    NOTE,
    SharedLinear,
    TimeActivation,
    frozen_base,
    use_shared_products,
)
from library.frozen import use_frozen_layers
from library.lookup import ADAPTERS
from library.quantised import QuantisedLinear, quantise
from tests.adapters.readers import ENDS, READERS, SHARED, TIMES, adapted, asked, assert_alike, learned, shares
from tests.toy_families import toy_modules
from tests.toys import toy_unet

LORAS = {
    "fused": ("lora", Options(fused=True)),
    "dropped": ("lora", Options(dropout=0.3, fused=True)),
    "peft": ("lora", Options(fused=False)),
}


@pytest.fixture
def text() -> Tensor:
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.fixture
def unet() -> nn.Module:
    """Two levels with four cross-attentions and eight resnets; in double precision, in which equal is equal."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = toy_unet(
            block_out_channels=(16, 24),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
        )
    return made.double().requires_grad_(False)


@pytest.fixture
def pair(unet: nn.Module) -> Callable[..., tuple[nn.Module, nn.Module, Network, Network]]:
    """The toy's UNet plain and with shared products, with the same adapter on each."""

    def made(kind: str = "lora", options: Options = LORAS["fused"][1], **told: Any) -> Any:
        plain, other = copy.deepcopy(unet).train(), unet.train()
        networks = [adapted(each.double(), kind, options, **told) for each in (plain, other)]
        use_shared_products(other)
        assert (shares(plain), shares(other)) == (0, SHARED)
        return plain, other, *networks

    return made


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("learns", [False, True], ids=["", "text learns"])
@pytest.mark.parametrize("name", LORAS)
def test_a_lora_learns_the_same(pair, text, name: str, learns: bool, checkpointing: bool) -> None:
    plain, other, *networks = pair(*LORAS[name])
    if checkpointing:
        plain.enable_gradient_checkpointing()
        other.enable_gradient_checkpointing()
    text.requires_grad_(learns)
    expected = learned(plain, networks[0], text)
    assert len(expected) == 1 + 2 * (2 * READERS + TIMES) + learns
    assert_alike(learned(other, networks[1], text), expected)
    assert_alike(learned(other, networks[1], text), expected)  # nothing of the first time is left


@pytest.mark.parametrize("kind", [kind for kind in ADAPTERS if kind != "lora"])
def test_other_kinds_learn_the_same(pair, text, kind: str) -> None:
    plain, other, *networks = pair(kind)
    other.enable_gradient_checkpointing()
    expected = learned(plain, networks[0], text.requires_grad_())
    assert_alike(learned(other, networks[1], text), expected)


def test_ranks_may_differ(pair, text) -> None:
    plain, other, *networks = pair(dims=lambda path: 1 + len(path) % 5)
    assert_alike(learned(other, networks[1], text), learned(plain, networks[0], text))


def test_some_layers_may_have_no_adapter(pair, text) -> None:
    plain, other, *networks = pair(dims=lambda path: 2 if "up_blocks" in path and path.endswith("to_v") else 0)
    expected = learned(plain, networks[0], text.requires_grad_())
    assert len(expected) == 2 + 2 * 4
    assert_alike(learned(other, networks[1], text), expected)


def test_a_text_encoder_may_learn_alone(unet, text) -> None:
    plain = copy.deepcopy(unet)
    use_shared_products(unet)
    text.requires_grad_()
    assert_alike(learned(unet, None, text), learned(plain, None, text))


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_two_passes_before_one_backward_pass(pair, text, checkpointing: bool) -> None:
    plain, other, *networks = pair()
    if checkpointing:
        other.enable_gradient_checkpointing()
    texts = text.requires_grad_(), text, (text.detach() * -0.5).requires_grad_()
    expected = learned(plain, networks[0], *texts)
    assert_alike(learned(other, networks[1], *texts), expected)


def test_the_base_model_speaks_between(pair, text) -> None:
    plain, other, *networks = pair()
    with torch.no_grad(), networks[0].disabled(), networks[1].disabled():
        base = asked(plain, text)
        assert_alike({"base": asked(other, text)}, {"base": base})
    with networks[0].scaled(0.5), networks[1].scaled(0.5):
        half = asked(plain, text)
        assert_alike({"half": asked(other, text)}, {"half": half})
    assert not torch.allclose(base, half)
    networks[1].detach()
    assert_alike({"base": asked(other, text)}, {"base": base})


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_every_family(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = toy_modules(name)["unet"].train()
    width = plain.config.cross_attention_dim
    more = None
    if name == "sdxl":
        pooled = plain.config.projection_class_embeddings_input_dim - 6 * plain.config.addition_time_embed_dim
        more = {"text_embeds": torch.randn(2, pooled), "time_ids": torch.full((2, 6), 64.0)}
    text = torch.randn(2, 7, width)
    other = copy.deepcopy(plain)
    networks = [adapted(unet, "lora", Options(fused=True)) for unet in (plain, other)]
    assert len(use_shared_products(other)) == 2
    assert_alike(learned(other, networks[1], text, more=more), learned(plain, networks[0], text, more=more), 1e-4)


class Counted(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counts[name] = self.counts.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def counts(unet: nn.Module, network: Network, text: Tensor) -> dict[str, int]:
    with Counted() as found:
        learned(unet, network, text)
    return found.counts


def test_hundreds_of_operations_are_a_few(pair, text) -> None:
    plain, other, *networks = pair()
    before, after = counts(plain, networks[0], text), counts(other, networks[1], text)
    products = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "baddbmm_")
    saved = sum(before.get(name, 0) for name in products) - sum(after.get(name, 0) for name in products)
    # Of each layer the base, two for A and B and three on the way back, less those of two widths, twice.
    assert saved == 6 * SHARED - (3 + 3 * 2) - (3 + 3 * 2)
    assert after["silu"] == before["silu"] - TIMES + 1


def test_names_values_and_memory_stay(unet) -> None:
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}

    def held() -> int:
        storages = {each.data_ptr(): each for each in (every.untyped_storage() for every in unet.parameters())}
        return sum(each.nbytes() for each in storages.values())

    size = held()
    wholes = use_shared_products(unet)
    after = unet.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert held() == size
    storages = {each.untyped_storage().data_ptr() for each in unet.parameters()}
    assert all(each.untyped_storage().data_ptr() in storages for whole in wholes for each in whole.parameters())


@pytest.mark.parametrize("packed", [False, True], ids=["", "packed"])
def test_changed_weights_are_followed(modules, layers, make, text, tmp_path, monkeypatch, packed: bool) -> None:
    text = text.float()
    monkeypatch.setattr(library.frozen, "WIDE", 8)
    plain = {"unet": copy.deepcopy(modules["unet"]).requires_grad_(False)}
    network = make(onto={"unet": copy.deepcopy(modules["unet"])}, layers={"unet": layers["unet"]})
    save_adapter(tmp_path / "lora.safetensors", network.export(), {})
    unet = modules["unet"].requires_grad_(False)
    wholes = use_shared_products(unet)
    if packed:
        use_frozen_layers([unet, *wholes])
        assert all(library.frozen.frozen_linear(whole) for whole in wholes)
    before = asked(unet, text)
    file, chosen = tmp_path / "lora.safetensors", {"unet": layers["unet"]}
    wearing = [load_adapters([(file, 1.0)], each, chosen) for each in ({"unet": unet}, plain)]
    changed = asked(unet, text)
    assert_alike({"merged": changed}, {"merged": asked(plain["unet"], text)}, 1e-4)
    assert not torch.allclose(changed, before, rtol=1e-3)
    wearing[0].restore()
    assert torch.equal(asked(unet, text), before)


def test_packed_weights_learn_the_same(unet, text, monkeypatch) -> None:
    monkeypatch.setattr(library.frozen, "WIDE", 8)
    plain, other, text = copy.deepcopy(unet).float(), unet.float(), text.float().requires_grad_()
    networks = [adapted(each, *LORAS["fused"]) for each in (plain, other)]
    wholes = use_shared_products(other)
    use_frozen_layers([other, *wholes])
    assert all(library.frozen.frozen_linear(whole) for whole in wholes)
    assert_alike(learned(other, networks[1], text), learned(plain, networks[0], text), 1e-4)


def groups_of(unet: nn.Module) -> list[shared.Group]:
    """The groups of a UNet: texts, and times."""
    (hook,) = unet._forward_pre_hooks.values()
    return [hook.args[0], unet.time_embed_act.group]


@pytest.mark.parametrize("change", ["moved", "learning", "autocast"])
def test_what_no_longer_fits_is_computed_one_by_one(pair, text, change: str) -> None:
    plain, other, *networks = pair()
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        for unet in (plain, other):
            for layer in (module for path, module in unet.named_modules() if path.endswith(ENDS)):
                base = frozen_base(layer)
                if change == "moved":
                    base.weight.data = base.weight.data * 2
                elif change == "learning":
                    base.weight.requires_grad_()
        assert all(group.read(text) is text for group in groups_of(other)[:1])
        found, expected = learned(other, networks[1], text), learned(plain, networks[0], text)
    assert_alike(found, expected)


def test_what_learns_and_few_bits_are_left_alone(unet, text, monkeypatch) -> None:
    unet.requires_grad_(True)
    assert use_shared_products(unet) == [] and shares(unet) == 0 and unet.time_embed_act is None
    unet.requires_grad_(False)
    monkeypatch.setattr(library.quantised, "WIDE", 8)
    quantise(unet, "int8", torch.device("cpu"))
    few = copy.deepcopy(unet)
    expected = asked(few, text)
    use_shared_products(unet)
    assert shares(unet) == 0 and sum(isinstance(each.forward, QuantisedLinear) for each in unet.modules()) > 40
    assert torch.equal(asked(unet, text), expected)


def test_one_layer_that_learns_is_left_out(unet, text) -> None:
    plain = copy.deepcopy(unet)
    layer = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k
    layer.weight.requires_grad_()
    use_shared_products(unet)
    assert shares(unet) == SHARED - 1 and not isinstance(layer.forward, SharedLinear)
    assert_alike({"answer": asked(unet, text)}, {"answer": asked(plain, text)})


@pytest.mark.parametrize("change", ["skips", "another activation", "another block", "has one"])
def test_an_unusual_unet_keeps_its_times(unet, text, change: str) -> None:
    if change == "skips":
        unet.mid_block.resnets[0].skip_time_act = True
    elif change == "another activation":
        unet.mid_block.resnets[0].nonlinearity = nn.GELU()
    elif change == "another block":
        unet.mid_block.__class__ = type("Another", (type(unet.mid_block),), {})
    else:
        unet.time_embed_act = nn.Tanh()
    expected = asked(copy.deepcopy(unet), text)
    assert len(use_shared_products(unet)) == 1 and not isinstance(unet.time_embed_act, TimeActivation)
    assert_alike({"answer": asked(unet, text)}, {"answer": expected})


def test_nothing_outlives_its_pass(pair, text, monkeypatch) -> None:
    _, other, network = pair()[:3]
    noted: list[weakref.ref[Tensor]] = []
    read = shared.Group.read

    def watched(self: shared.Group, x: Tensor) -> Tensor:
        found = read(self, x)
        noted.extend(weakref.ref(each.value) for each in getattr(found, NOTE).values())
        return found

    monkeypatch.setattr(shared.Group, "read", watched)
    for checkpointing in (False, True):
        if checkpointing:
            other.enable_gradient_checkpointing()
        answer = asked(other, text)
        assert answer.requires_grad and (not checkpointing or any(each() is not None for each in noted))
        del answer
        gc.collect()
        assert len(noted) == SHARED * (1 + checkpointing) and all(each() is None for each in noted)
    assert not hasattr(text, NOTE)


def test_half_precision_rounds_as_layers_do(pair, text) -> None:
    plain, other, *networks = pair()
    for unet, network in zip((plain, other), networks, strict=True):
        kept = {id(parameter) for parameter in network.parameters("unet")}
        for parameter in unet.parameters():
            parameter.data = parameter.data.float() if id(parameter) in kept else parameter.data.bfloat16()
    again = copy.deepcopy(plain)
    use_shared_products(again)  # of the new weights; those of `other` are no longer one
    exact = learned(plain, networks[0], text.bfloat16())
    assert_alike(learned(other, networks[1], text.bfloat16()), exact, 1e-6)
    answer = asked(again, text.bfloat16())
    assert answer.dtype == torch.bfloat16
    assert_alike({"answer": answer}, {"answer": exact["answer 0"]}, 0.02)


def test_tensors_without_data(pair, text) -> None:
    _, other, *_ = pair()
    with FakeTensorMode(allow_non_fake_inputs=True):
        answer = asked(other, torch.empty(2, 7, 32, dtype=torch.float64))
        assert answer.shape == (2, 4, 8, 8)
