"""What is loaded, what is adapted and what may learn, as the settings ask."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import library.frozen
import library.quantised
from library.adapters.metadata import save_adapter
from library.adapters.shared import SharedLinear
from library.device import DTYPES
from library.frozen import FrozenLayer
from library.settings import read_settings
from library.train import model as made
from library.train.model import build_model, keep_less
from tests.runs import WHOLE, largest_difference


@pytest.fixture
def build(settings_of, family, compute):
    """Builds the toy's model for some settings."""
    return lambda **changes: build_model(settings_of(**changes), family, compute, 4, ["a", "b"])


def test_both_parts_learn(build) -> None:
    model = build(network_dropout=0.5)
    layers = model.learner.learned.layers
    assert (len(layers["unet"]), len(layers["text_encoder"])) == (192, 12)
    learning = {id(parameter) for parameter in model.learner.parameters}
    for module in (model.unet, *model.reader.encoders):
        assert module.training
        for parameter in module.parameters():
            assert parameter.requires_grad == (id(parameter) in learning)
    assert len(learning) == 2 * (192 + 12)
    assert model.reader.trained and model.reader.stays
    dropouts = [each.p for each in model.unet.modules() if isinstance(each, torch.nn.Dropout) and each.p]
    assert dropouts and set(dropouts) == {0.5}


def test_a_frozen_text_encoder_is_read_and_put_away(build) -> None:
    model = build(network_train_unet_only=True)
    assert set(model.learner.learned.layers) == {"unet"}
    assert not model.reader.trained and not model.reader.stays
    assert not any(parameter.requires_grad for parameter in model.reader.encoders[0].parameters())


def test_kept_text_outputs_need_no_text_encoder(build, tmp_path, family, monkeypatch) -> None:
    changes = {"network_train_unet_only": True, "cache_text_encoder_outputs": True, "cache_dir": tmp_path}
    said = build(**changes).reader.read(["a", "b"]).hidden
    monkeypatch.setattr(type(family), "load_text_encoders", None)
    model = build(**changes)
    assert torch.equal(model.reader.read(["a", "b"]).hidden, said) and model.reader.encoders == []


def test_a_frozen_unet_passes_gradients_on(build) -> None:
    model = build(network_train_text_encoder_only=True, gradient_checkpointing=True)
    assert set(model.learner.learned.layers) == {"text_encoder"}
    assert not any(parameter.requires_grad for parameter in model.unet.parameters())
    assert model.unet.is_gradient_checkpointing
    assert model.reader.encoders[0].is_gradient_checkpointing


def test_trained_weights_stay_in_float32(settings_of, family, compute) -> None:
    half = replace(compute, dtype=torch.bfloat16)
    model = build_model(settings_of(mixed_precision="bf16"), family, half, 4, [])
    learning = {id(parameter) for parameter in model.learner.parameters}
    for module in (model.unet, *model.reader.encoders):
        kinds = {(id(each) in learning, each.dtype) for each in module.parameters()}
        assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_a_network_from_a_file(build, tmp_path) -> None:
    network = build(network_dim=3, network_alpha=1.5, seed=99).learner.learned
    state = {
        name: tensor + 1 if name.endswith("lora_up.weight") else tensor for name, tensor in network.state_dict().items()
    }
    save_adapter(tmp_path / "old.safetensors", state, {})
    again = build(network_weights=tmp_path / "old.safetensors", dim_from_weights=True).learner.learned
    assert again.alpha == 1.5
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.fixture
def build_whole(bench, family, compute):
    """Builds the toy's model for settings of train_dreambooth.py."""

    def _build(**changes):
        settings = read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth")
        half = replace(compute, dtype=DTYPES[settings.mixed_precision])
        return build_model(settings, family, half, 4, ["a", "b"])

    return _build


def formats(module: torch.nn.Module) -> set[tuple[bool, torch.dtype]]:
    """Whether a module's weights learn, and in which number format they are."""
    return {(each.requires_grad, each.dtype) for each in module.parameters()}


@pytest.mark.parametrize(
    ("changes", "unet", "text"),
    [
        ({}, (True, torch.float32), (False, torch.float32)),
        ({"mixed_precision": "bf16"}, (True, torch.float32), (False, torch.bfloat16)),
        ({"mixed_precision": "bf16", "train_text_encoder": True}, (True, torch.float32), (True, torch.float32)),
        (
            {"mixed_precision": "bf16", "train_text_encoder": True, "full_bf16": True},
            (True, torch.bfloat16),
            (True, torch.bfloat16),
        ),
        (
            {"mixed_precision": "bf16", "train_text_encoder": True, "unet_lr": 0},
            (False, torch.bfloat16),
            (True, torch.float32),
        ),
    ],
)
def test_all_weights_learn(build_whole, changes: dict, unet: tuple, text: tuple) -> None:
    model = build_whole(**changes)
    assert formats(model.unet) == {unet} and formats(model.reader.encoders[0]) == {text}
    assert model.unet.training and model.reader.encoders[0].training == text[0]
    assert model.reader.stays == text[0]
    learning = {id(each) for each in model.learner.parameters}
    modules = [model.unet] * unet[0] + model.reader.encoders * text[0]
    assert learning == {id(each) for module in modules for each in module.parameters()}


def test_a_network_may_be_named(build_whole) -> None:
    model = build_whole(network_module="lora")
    assert set(model.learner.learned.layers) == {"unet", "text_encoder"} and model.result.kind == "LoRA"


def test_checkpointing_of_all_weights(build_whole) -> None:
    model = build_whole(gradient_checkpointing=True, train_text_encoder=True)
    assert model.unet.is_gradient_checkpointing and model.reader.encoders[0].is_gradient_checkpointing


def packed(module: nn.Module) -> int:
    """How many layers compute with copies of their weights."""
    return sum(isinstance(each.forward, FrozenLayer) for each in module.modules())


def test_frozen_layers_are_packed_where_something_else_learns(build, build_whole, monkeypatch) -> None:
    monkeypatch.setattr(library.frozen, "WIDE", 8)
    model = build()
    assert packed(model.unet) > 100 and packed(model.reader.encoders[0]) > 10
    for plain in ({"fast_layers": False}, {"compile": "regional"}):
        assert packed(build(**plain).unet) == 0
    whole = build_whole(prior_preservation="self", class_prompt="creature", instance_prompt="sks creature")
    assert packed(whole.unet) == 0 and packed(whole.prior.held[0]) > 100


@pytest.mark.parametrize("kind", [{}, {"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "conv_dim=4"]}])
def test_the_same_is_learned_with_packed_weights(bench, monkeypatch, kind: dict) -> None:
    expected = bench.at("plain").train(**kind)
    monkeypatch.setattr(library.frozen, "WIDE", 8)
    learned = bench.at("packed").train(**kind)
    assert bench.at("packed").losses() == pytest.approx(bench.at("plain").losses(), rel=1e-5)
    assert 0 < largest_difference(learned, expected) < 0.01  # not zero: sums are rounded in another order


def shared(module: nn.Module) -> int:
    """How many layers are computed together with others."""
    return sum(isinstance(each.forward, SharedLinear) for each in module.modules())


def test_layers_with_the_same_input_are_computed_as_one(build, build_whole) -> None:
    assert shared(build().unet) == 2 * 16 + 22
    for plain in ({"fast_layers": False}, {"compile": "regional"}):
        assert shared(build(**plain).unet) == 0
    assert shared(build_whole().unet) == 0


@pytest.mark.parametrize(
    "changes", [{"gradient_checkpointing": True}, {"prior_preservation": "self", "class_prompt": "creature"}]
)
def test_the_same_is_learned_with_shared_products(bench, monkeypatch, changes: dict) -> None:
    learned = bench.at("shared").train(**changes)
    monkeypatch.setattr(made, "use_shared_products", lambda _: [])
    expected = bench.at("plain").train(**changes)
    assert bench.at("shared").losses() == pytest.approx(bench.at("plain").losses(), rel=1e-5)
    assert 0 < largest_difference(learned, expected) < 0.01  # not zero: sums are rounded in another order


@pytest.mark.parametrize(
    ("format", "kind"),
    [("nf4", {"network_dropout": 0.1}), ("int8", {"network_module": "loha"}), ("nf4", {"fast_layers": False})],
)
def test_a_lora_learns_on_few_bits(bench, monkeypatch, format: str, kind: dict) -> None:
    expected = bench.at("plain").train(**kind)
    monkeypatch.setattr(library.quantised, "WIDE", 8)
    learned = bench.at("few").train(**kind, quantize_base=format, sample_every_n_steps=2)
    assert learned.keys() == expected.keys() and all(each.isfinite().all() for each in learned.values())
    losses, usual = bench.at("few").losses(), bench.at("plain").losses()
    assert losses == pytest.approx(usual, rel=0.05) and losses != usual


def test_what_gradients_go_through_may_keep_less_later(build_whole) -> None:
    for changes, count in (({}, 1), ({"train_text_encoder": True}, 2)):
        model = build_whole(**changes)
        assert len(model.learning()) == count and model.learning()[0] is model.unet and model.channels == 4
        keep_less(*model.learning())
        assert all(each.is_gradient_checkpointing for each in model.learning())
