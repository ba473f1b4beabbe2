"""The adapters of a run, as its settings ask."""

from collections import Counter

import pytest
import torch

from library.adapters.hypernetwork import networks_of
from library.errors import InputError
from library.lookup import ADAPTERS, HYPERNETWORK
from library.train.model import build_model
from library.train.networks import block_factors, network_options


@pytest.fixture
def build(settings_of, family, compute):
    """Builds the toy's model for some settings."""
    return lambda **changes: build_model(settings_of(**changes), family, compute, 4, ["a", "b"])


@pytest.fixture
def shapes(build):
    """The network's layers by their ranks, and the alphas of its own state."""

    def _shapes(**changes):
        network = build(**changes).learner.learned
        state = network.state_dict()
        ranks = Counter(tensor.shape[0] for name, tensor in state.items() if "lora_down" in name)
        alphas = Counter(round(float(tensor), 4) for name, tensor in state.items() if name.endswith("alpha"))
        return network, dict(ranks), dict(alphas)

    return _shapes


def test_convolutions(shapes) -> None:
    """86 more layers: 52 of 3x3, at the rank of convolutions, and linear and 1x1 layers at that of all."""
    for changes in (
        {"conv_dim": 3, "conv_alpha": 1.5},
        {"network_args": ["conv_dim=3", "conv_alpha=1.5"]},
        {"network_preset": "full", "conv_dim": 3, "conv_alpha": 1.5},
    ):
        network, ranks, alphas = shapes(network_dim=2, network_alpha=2, **changes)
        assert ranks == {2: 278 - 50 + 12, 3: 50} and alphas == {2.0: 240, 1.5: 50}, (ranks, alphas)
    written = network.export()
    assert {float(tensor) for name, tensor in written.items() if name.endswith("alpha")} == {2.0}


def test_ranks_of_blocks_and_the_scale_of_roots(shapes) -> None:
    dims = [0, 4, 4] + [2] * 22
    _, ranks, alphas = shapes(
        network_train_unet_only=True,
        network_alpha=1,
        network_args=["rs_lora=True", f"block_dims={','.join(map(str, dims))}"],
    )
    assert ranks == {4: 24, 2: 168} and alphas == {2.0: 24, 1.4142: 168}


def test_blocks_learn_at_their_rates(build) -> None:
    rates = ["down_lr_weight=0,0.5,0.5,1,1,1,1,1,1,1,1,1", "mid_lr_weight=0", "loraplus_unet_lr_ratio=4"]
    model = build(network_train_unet_only=True, unet_lr=0.01, network_args=rates)
    found = {group["name"]: (group["lr"], len(group["params"])) for group in model.learner.optimizer.param_groups}
    assert found == {
        "unet x0.5": (0.005, 24),
        "unet x0.5 plus": (0.02, 24),
        "unet": (0.01, 156),
        "unet plus": (0.04, 156),
    }
    assert not any("mid_block" in stem for stem in model.learner.learned.layers["unet"])
    assert set(model.learner.rates()) == {f"lr/{name}" for name in found}


def test_what_layers_are_told(settings_of) -> None:
    words = ["rank_dropout=0.1", "module_dropout=0.2", "factor=4", "conv_dim=2"]
    options = network_options(settings_of(network_module="lokr", network_dropout=0.3, network_args=words))
    assert (options.dropout, options.rank_dropout, options.module_dropout) == (0.3, 0.1, 0.2)
    assert options.arguments == {"factor": 4} and options.fused
    assert block_factors(settings_of()) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network_layers": ["unet.*attn1"]}, "network_layers chooses no layer of the text_encoder"),
        ({"network_layers": ["text"]}, "no layer of the unet; choose some, or set network_train_text_encoder_only"),
        ({"network_args": ["block_dims=1,2"]}, "block_dims has 2 numbers, and this model needs 25"),
        ({"network_args": ["up_lr_weight=1,2"]}, "up_lr_weight has 2 numbers, and this model has 12"),
    ],
)
def test_what_fits_no_model_is_refused(build, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build(**changes)


@pytest.mark.parametrize("kind", [kind for kind in ADAPTERS if kind != HYPERNETWORK])
def test_every_kind_is_built_and_learns(build, kind: str) -> None:
    changes = {"network_preset": "full", "network_args": ["train_norm=True"], "network_dim": 4}
    model = build(network_module=kind, **changes)
    learner = model.learner
    assert {"unet", "text_encoder"} == set(learner.learned.layers) and len(learner.learned.norms) == 108
    learner.backward(sum((each * each.numel()).sum() for each in learner.parameters))
    before = [each.detach().clone() for each in learner.parameters]
    learner.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, learner.parameters, strict=True))


def test_a_hypernetwork_is_built_and_learns(build) -> None:
    """On the UNet alone: the toy's attention reads pixels of widths 16, 24 and 32, and text of width 32."""
    words = ["layer_structure=1,1.5,1", "activation_func=mish"]
    model = build(network_module="hypernetwork", network_args=words)
    network, learner = model.learner.learned, model.learner
    assert set(network.layers) == {"unet"} and len(network.layers["unet"]) == 6
    forms = {each.form for _, each in networks_of(network.layers["unet"])}
    assert {(form.structure, form.activation) for form in forms} == {((1.0, 1.5, 1.0), "mish")}
    learner.backward(sum((each * each.numel() + each.sum()).sum() for each in learner.parameters))
    before = [each.detach().clone() for each in learner.parameters]
    learner.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, learner.parameters, strict=True))
