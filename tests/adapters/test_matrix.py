"""Every kind of adapter on every kind of layer: where it begins, what learns, what its file says, and who reads it."""

import copy

import pytest
import torch
from torch import Tensor

from library.adapters.anatomy import modules_of
from library.adapters.changes import parse_changes
from library.adapters.inspection import Inspection
from library.adapters.kinds import Options
from library.adapters.merged import load_adapters
from library.adapters.network import Network, attach
from library.adapters.targets import Sizes, choose_layers, layer_sizes
from library.adapters.uis import WHOLE, verdicts
from library.errors import InputError
from library.lookup import ADAPTERS, HYPERNETWORK, PLAIN_LORA, UNSCALED
from library.models.family import open_family
from tests.adapters.small import (
    KINDS,
    PARTS,
    answers,
    attached,
    gradients,
    shake,
    small_layers,
    small_model,
    written,
)
from tests.toy_families import write_toy

FAMILIES = ("sd1", "sd2", "sdxl")
EVERY_LEAF = {
    "lora": {"lora_down.weight", "lora_up.weight", "alpha"},
    "loha": {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "alpha"},
    "lokr": {"lokr_w1", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "alpha"},
    "dora": {"lora_down.weight", "lora_up.weight", "alpha", "dora_scale"},
    "ia3": {"diff"},
    "full": {"diff", "diff_b"},
    "oft": {"diff"},
    "boft": {"diff"},
}
NORM = {"w_norm", "b_norm"}


@pytest.fixture
def modules():
    """A tiny model of every kind of layer, in evaluation mode."""
    return small_model()


def close(one: Tensor, other: Tensor, rounding: float = 2e-5) -> bool:
    """Whether two tensors are equal but for rounding, by the larger numbers in them."""
    return float((one - other).abs().max()) <= rounding * max(float(other.abs().max()), 1e-3)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_nothing_changes_at_the_start(modules, kind: str) -> None:
    before = answers(modules)
    network = attached(kind, modules)
    after = answers(modules)
    for part in PARTS:
        assert close(after[part], before[part], 1e-6), part
    network.detach()
    assert all(close(answer, before[part], 1e-6) for part, answer in answers(modules).items())


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns_and_nothing_else(modules, kind: str) -> None:
    network = attached(kind, modules, dim=4)
    learning = {id(each) for part in PARTS for each in network.parameters(part)}
    every = [each for module in modules.values() for each in module.parameters()]
    assert {id(each) for each in every if each.requires_grad} == learning
    assert {each.dtype for part in PARTS for each in network.parameters(part)} == {torch.float32}
    for module in modules.values():
        module.train()
    before = {id(each): each.detach().clone() for each in every}
    optimizer = torch.optim.Adam([each for each in every if each.requires_grad], lr=0.01)
    torch.manual_seed(0)
    for _ in range(12):
        gradients(network, modules)
        optimizer.step()
    moved = {id(each) for each in every if not torch.equal(each, before[id(each)])}
    assert moved == learning


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_merged_equals_attached(modules, kind: str, tmp_path) -> None:
    network = attached(kind, modules, noise=0.1)
    expected, base = answers(modules), small_model()
    found = written(network, tmp_path / "a.safetensors")
    plain = answers(base)
    merged = load_adapters([(tmp_path / "a.safetensors", 1.0)], base, small_layers(base))
    for part in PARTS:
        assert not close(expected[part], plain[part], 1e-2), f"{part} is hardly changed"
        assert close(answers(base)[part], expected[part]), part
    merged.restore()
    assert all(torch.equal(plain[part], answer) for part, answer in answers(base).items())
    assert len(found) == len(small_layers(base)["unet"]) + 12


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_half_the_strength_is_half_the_change(modules, kind: str, tmp_path) -> None:
    network = attached(kind, modules, noise=0.1)
    base = small_model()
    written(network, tmp_path / "a.safetensors")
    load_adapters([(tmp_path / "a.safetensors", 0.5)], base, small_layers(base))
    with network.scaled(0.5):
        assert all(close(answers(modules)[part], answer) for part, answer in answers(base).items())
    with network.disabled():
        assert all(close(answers(modules)[part], answer, 1e-6) for part, answer in answers(small_model()).items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_weights_change_is_the_files(modules, kind: str, dtype: torch.dtype, tmp_path) -> None:
    network = attached(kind, modules, noise=0.1)
    found = written(network, tmp_path / "a.safetensors", dtype)
    for layers in network.layers.values():
        for stem, layer in layers.items():
            own = layer.change() if hasattr(layer, "change") else layer.get_delta_weight("default")
            assert close(found[stem].of(layer.get_base_layer().weight), own, 2e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_run_goes_on_exactly(modules, kind: str) -> None:
    network = attached(kind, modules, noise=0.1)
    state, expected = network.state_dict(), answers(modules)
    network.detach()
    again = attached(kind, modules, seed=99, noise=0.3)
    again.load(state)
    assert all(torch.equal(expected[part], answer) for part, answer in answers(modules).items())
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    again.detach()
    if kind not in ("ia3", "full"):  # which have no rank
        with pytest.raises(InputError, match="rank|fit"):
            attached(kind, modules, dim=4).load(state)


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_those_of_the_contract(modules, kind: str) -> None:
    network = attached(kind, modules)
    found: dict[str, set[str]] = {}
    state = network.export()
    for key, tensor in state.items():
        stem, _, leaf = key.partition(".")
        found.setdefault(stem, set()).add(leaf)
        assert tensor.dtype == torch.float32
        if leaf in ("diff", "dora_scale", "lora_down.weight"):
            base = next(layers[stem] for layers in network.layers.values() if stem in layers).weight
            assert tensor.ndim == base.ndim
    leaves = EVERY_LEAF["lora"] if kind in PLAIN_LORA else EVERY_LEAF[kind]
    for stem, own in found.items():
        if stem.endswith("attentions_0_norm"):
            assert own == NORM
        elif kind == "lokr":
            assert own <= leaves and "lokr_w1" in own and "alpha" in own
        else:
            assert own == (leaves - {"diff_b"} if stem.endswith("downsamplers_0_conv") else leaves), stem
    stems = [stem for chosen in small_layers(small_model()).values() for stem in chosen.values()]
    assert list(found) == stems
    assert len({float(tensor) for key, tensor in state.items() if key.endswith(".alpha")}) <= 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNSCALED])
@torch.no_grad()
def test_scales_come_out_right_for_alpha_by_rank(modules, kind: str, tmp_path) -> None:
    """Layers of several ranks and alphas, some scaled by the root of the rank: still one alpha in the file."""
    layers = small_layers(modules)
    sizes = {
        stem: Sizes(2 + number % 3, 1.0 + number % 2, rank_stabilised=number % 3 == 0).of(stem, False, False)
        for number, stem in enumerate(stem for chosen in layers.values() for stem in chosen.values())
    }
    ranks = {stem: size.rank for stem, size in sizes.items()}
    alphas = {stem: size.alpha for stem, size in sizes.items()}
    network = attach(kind, modules, layers, ranks, alphas, 5, Options())
    shake(network, 0.1)
    expected, base = answers(modules), small_model()
    written(network, tmp_path / "a.safetensors")
    load_adapters([(tmp_path / "a.safetensors", 1.0)], base, small_layers(base))
    assert all(close(answers(base)[part], expected[part]) for part in PARTS)
    values = {float(tensor) for key, tensor in network.export().items() if key.endswith(".alpha")}
    assert values == {network.alpha} and len(set(alphas.values())) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_same_with_checkpointing(modules, kind: str) -> None:
    network = attached(kind, modules, noise=0.1, options=Options(dropout=0.2, rank_dropout=0.2, module_dropout=0.2))
    for module in modules.values():
        module.train()
    torch.manual_seed(3)
    plain = gradients(network, modules)
    modules["unet"].checkpointing = True
    for part in PARTS[1:]:
        modules[part].activation_checkpointing_enable({"use_reentrant": False})
    torch.manual_seed(3)
    again = gradients(network, modules)
    for part in PARTS:
        for one, other in zip(plain[part], again[part], strict=True):
            assert one is not None and torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_dropouts_work_in_training_alone_and_keep_the_mean(modules, kind: str) -> None:
    for name in ("dropout", "rank_dropout", "module_dropout"):
        network = attached(kind, modules, noise=0.1, options=Options(**{name: 0.5}))
        calm = answers(modules)["unet"]
        assert torch.equal(calm, answers(modules)["unet"])
        modules["unet"].train()
        assert not torch.equal(answers(modules)["unet"], answers(modules)["unet"])
        modules["unet"].eval()
        network.detach()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_file_gives_start_values_or_says_why_not(modules, kind: str, tmp_path) -> None:
    network = attached(kind, modules, noise=0.1)
    expected = answers(modules)
    written(network, tmp_path / "a.safetensors")
    network.detach()
    again = attached(kind, modules, seed=99, noise=0.2, alpha=5.0)
    if kind in ("ia3", "oft", "boft", "pissa"):
        with pytest.raises(InputError, match="use resume"):
            again.start_from(tmp_path / "a.safetensors")
        return
    again.start_from(tmp_path / "a.safetensors")
    assert all(close(answers(modules)[part], expected[part]) for part in PARTS)
    again.detach()
    other = attached("loha" if kind == "lora" else "lora", modules)
    if kind not in PLAIN_LORA or kind == "lora":
        with pytest.raises(InputError, match="the file has"):
            other.start_from(tmp_path / "a.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lora"])  # which test_fused has
@torch.no_grad()
def test_on_a_half_precision_base_small_changes_are_not_lost(modules, kind: str, dtype: torch.dtype) -> None:
    """A change of a thousandth of the weight is less than half of its last bit in bfloat16."""
    layers = small_layers(modules)
    unet = modules["unet"].to(dtype)
    network = attached(kind, {"unet": unet}, layers={"unet": layers["unet"]}, noise=1e-3)
    assert {each.dtype for each in network.parameters("unet")} == {torch.float32}
    for layer, shape in ((unet.square, (2, 8, 6, 6)), (unet.linear, (2, 5, 8)), (unet.norm, (2, 8, 4, 4))):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(4)).to(dtype)
        bias = layer.bias_change()
        expected = copy.deepcopy(layer).float().apply_weight(x.float(), layer.change(), bias)
        assert layer(x).dtype == layer.side(x).dtype == dtype
        assert close(layer.side(x).float(), expected, 0.02), kind


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory):
    """The parts of a toy of each family."""
    base = tmp_path_factory.mktemp("families")
    found = {}
    for name in FAMILIES:
        family = open_family(str(write_toy(base / name, name)))
        encoders = family.load_text_encoders(torch.float32)
        readers = dict(zip(family.text_parts, encoders, strict=True))
        found[name] = family, {"unet": family.load_unet(torch.float32), **readers}
    return found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_uis_load_the_file_whole(families, name: str, kind: str, tmp_path) -> None:
    """All layers, norms too, by the rules of the UIs: plain LoRA in all six, everything else where it can be."""
    family, modules = families[name]
    layers = {}
    for part, module in modules.items():
        every = family.every_layer(module, part)
        dotted = {path: family.diffusers_name(part, path) for path in every}
        layers[part] = choose_layers(module, every, dotted, part, "full", (), kind not in PLAIN_LORA)
    sizes = layer_sizes(modules, layers, Sizes(2, 1.0))
    network = attach(kind, modules, layers, {stem: 2 for stem in sizes}, 1.0, 0, Options())
    try:
        state = network.export()
    finally:
        network.detach()
    version = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}[name]
    look = Inspection("a", 1, {"ss_base_model_version": version}, modules_of(state), {})
    told = {verdict.ui: verdict for verdict in verdicts(look)}
    for ui in ("AUTOMATIC1111", "Forge", "ComfyUI"):
        assert told[ui].state == WHOLE, told[ui]
    if kind in PLAIN_LORA:
        assert told["diffusers"].state == WHOLE, told["diffusers"]
        if name == "sdxl":
            assert told["Fooocus"].state == WHOLE, told["Fooocus"]


def test_the_matrix_is_over_the_table() -> None:
    """But for hypernetworks, which have one of their own (test_hypernetwork.py), for they change no weight."""
    assert {*KINDS, HYPERNETWORK} == set(ADAPTERS) and len(KINDS) >= 11
    for kind in KINDS:
        network = attached(kind, small_model())
        assert isinstance(network, Network) and network.kind.module
        changes = parse_changes(network.export(), {}, "x")
        assert {change.kind for change in changes.values()} <= {"lora", "loha", "lokr", "full", "norm"}
