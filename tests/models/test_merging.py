"""A merged model is the base with its adapters on, in every family, layout and number format."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.adapters.combining import Share
from library.adapters.keys import LoraWeights, to_kohya
from library.adapters.layouts import convert
from library.adapters.merged import load_adapters
from library.adapters.network import attach
from library.errors import InputError
from library.models import merging
from library.models.family import Family, open_family
from library.models.merging import merge_into, weights_of
from library.models.stems import parts_of, usual_stems, weight_stems
from library.weights import load_tensors, read_header, save_tensors
from tests.toy_families import write_toy, write_toy_file

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy of each family as a folder and as a file, and a LoRA for every layer that is trained."""
    base = tmp_path_factory.mktemp("merging")
    for name in FAMILIES:
        family = open_family(str(write_toy(base / name, name)))
        write_toy_file(base / f"{name}.safetensors", name)
        write_lora(base / f"{name}_lora.safetensors", family)
    return base


def write_lora(path: Path, family: Family, convolutions: bool = False, seed: int = 0, layout: str = "kohya") -> Path:
    source, layers = torch.Generator().manual_seed(seed), {}
    for part in parts_of(family):
        weights = family.part_tensors(part)
        for stem, name in usual_stems(family, part, weights, convolutions).items():
            outputs, inputs, *rest = weights[name].shape
            up = 0.1 * torch.randn(outputs, 3, *[1 for _ in rest], generator=source)
            layers[stem] = LoraWeights(0.1 * torch.randn(3, inputs, *rest, generator=source), up, 2.0)
    save_tensors(path, *convert(to_kohya(layers), {}, layout, "x"))
    return path


def modules_of(family: Family) -> dict[str, torch.nn.Module]:
    encoders = family.load_text_encoders(torch.float32)
    return {"unet": family.load_unet(torch.float32), **dict(zip(family.text_parts, encoders, strict=True))}


@torch.no_grad()
def answers(family: Family, modules: dict[str, torch.nn.Module]) -> Tensor:
    """What the whole model answers to a caption and noise."""
    encoders = [modules[part] for part in family.text_parts]
    condition = family.encode_text(encoders, family.tokenize(["a red cat"], 75))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return family.predict(modules["unet"], noisy, torch.tensor([500]), condition)


@pytest.mark.parametrize(("ending", "target"), [("", "merged.safetensors"), (".safetensors", "merged")])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_merged_model_is_the_base_with_the_adapter(folder, tmp_path, name: str, ending: str, target: str) -> None:
    base = open_family(str(folder / f"{name}{ending}"))
    lora = folder / f"{name}_lora.safetensors"
    count = merge_into(base, [Share(lora)], tmp_path / target, None, {"modelspec.title": "x"})
    merged = open_family(str(tmp_path / target))
    modules = modules_of(base)
    before = answers(base, modules)
    layers = {part: base.adapter_layers(module, part) for part, module in modules.items()}
    assert count == sum(map(len, layers.values()))
    network = attach("lora", modules, layers, 3, 2.0, seed=0)
    network.load(load_tensors(lora))
    attached = answers(base, modules)
    found = answers(merged, modules_of(merged))
    assert (attached - before).abs().max() > 1e-3
    torch.testing.assert_close(found, attached, rtol=1e-3, atol=1e-5 + 1e-3 * float((attached - before).abs().max()))
    for part in ("vae",):
        assert all(torch.equal(each, base.part_tensors(part)[key]) for key, each in merged.part_tensors(part).items())
    if target.endswith("safetensors"):
        assert read_header(tmp_path / target)[0]["modelspec.title"] == "x"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_is_what_load_adapters_makes_bit_for_bit(folder, tmp_path, dtype: torch.dtype) -> None:
    """Several files with ratios, summed in the same order and rounded once."""
    base = open_family(str(folder / "sd1"))
    other = write_lora(tmp_path / "other.safetensors", base, convolutions=True, seed=1, layout="diffusers")
    given = [(folder / "sd1_lora.safetensors", 0.7), (other, -0.4)]
    merge_into(base, [Share(*each) for each in given], tmp_path / "merged", dtype, {})
    modules = modules_of(base)
    load_adapters(given, modules, {part: base.adapter_layers(module, part) for part, module in modules.items()})
    merged = open_family(str(tmp_path / "merged"))
    for part, module in modules.items():
        expected = {key.removeprefix("text_model."): each.to(dtype) for key, each in module.state_dict().items()}
        found = merged.part_tensors(part)
        assert all(torch.equal(each, expected[key]) for key, each in found.items())


def test_blocks_have_weights(folder, tmp_path) -> None:
    base, lora = open_family(str(folder / "sd1")), folder / "sd1_lora.safetensors"
    merge_into(base, [Share(lora, 2.0, {"te": 0.0, "in": 0.0, "out": 0.0, "mid": 0.5})], tmp_path / "merged", None, {})
    merge_into(base, [Share(lora)], tmp_path / "whole", None, {})
    for part in parts_of(base):
        before, after = base.part_tensors(part), open_family(str(tmp_path / "merged")).part_tensors(part)
        whole = open_family(str(tmp_path / "whole")).part_tensors(part)
        for name in before:
            expected = whole if name.startswith("mid_block.") else before
            torch.testing.assert_close(after[name], expected[name], rtol=1e-6, atol=1e-7)


def test_names_of_other_programs_fit_too(folder, tmp_path) -> None:
    base = open_family(str(folder / "sd1"))
    lora = write_lora(tmp_path / "a.safetensors", base, convolutions=True, layout="original")
    assert merge_into(base, [Share(lora)], tmp_path / "merged", None, {}) == 278 + 12
    edge = {"lora_unet_conv_in": LoraWeights(torch.ones(1, 4, 3, 3), torch.ones(16, 1, 1, 1), 1.0)}
    save_tensors(tmp_path / "b.safetensors", to_kohya(edge))
    assert merge_into(base, [Share(tmp_path / "b.safetensors")], tmp_path / "b", None, {}) == 1
    stems = weight_stems(base, "unet", base.part_tensors("unet"))
    assert stems["lora_unet_conv_in"] == "conv_in.weight"


@pytest.mark.parametrize("lora", ["sd2", "sdxl"])
def test_a_lora_for_another_model_writes_nothing(folder, tmp_path, lora: str) -> None:
    base = open_family(str(folder / "sd1"))
    with pytest.raises(InputError, match="another base model|does not fit the base model"):
        merge_into(base, [Share(folder / f"{lora}_lora.safetensors")], tmp_path / "merged", None, {})
    assert not list(tmp_path.iterdir())


def test_the_number_format_is_the_models_own(folder, tmp_path) -> None:
    base, lora = open_family(str(folder / "sd1")), folder / "sd1_lora.safetensors"
    merge_into(base, [Share(lora)], tmp_path / "half.safetensors", torch.float16, {})
    half = open_family(str(tmp_path / "half.safetensors"))
    merge_into(half, [Share(lora)], tmp_path / "again.safetensors", None, {})
    assert {kind for kind, _ in read_header(tmp_path / "again.safetensors")[1].values()} == {"F16"}


def test_one_weight_at_a_time_is_in_memory(folder, tmp_path, monkeypatch) -> None:
    """The UNet's sums are made while the file is written, not before."""
    base, events = open_family(str(folder / "sd1")), []
    make, write = merging._sum, merging.write_file
    monkeypatch.setattr(merging, "_sum", lambda *given: events.append("sum") or make(*given))
    monkeypatch.setattr(merging, "write_file", lambda *given: events.append("write") or write(*given))
    merge_into(base, [Share(folder / "sd1_lora.safetensors")], tmp_path / "x.safetensors", None, {})
    assert events.index("write") == 12 and len(events) == 12 + 1 + 192


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_weights_by_the_stems_of_files(folder, name: str) -> None:
    family = open_family(str(folder / name))
    weight_of = weights_of(family)
    modules = modules_of(family)
    for part, module in modules.items():
        layers = family.adapter_layers(module, part)
        assert len(layers) > 5
        assert all(torch.equal(weight_of(stem), module.get_submodule(path).weight) for path, stem in layers.items())
    assert weight_of("lora_unet_elsewhere") is None
