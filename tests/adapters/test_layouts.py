"""Layouts turned into each other: the same changes everywhere, and the same numbers after the way back."""

import itertools
import json

import pytest
import torch
from torch import Tensor

from library.adapters.keys import LoraWeights, parse_adapter, to_kohya
from library.adapters.layouts import LAYOUTS, ORIGIN, convert, is_xl, original_stem, scaled, usual_stem
from library.models.family import open_family
from library.models.stems import parts_of, usual_stems
from tests.toy_families import write_toy
from tests.toys import original_unet_name

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, torch.Size]]:
    """The stems of all layers of each family, with the shapes of the weights."""
    found: dict[str, dict[str, torch.Size]] = {}
    for name in FAMILIES:
        family = open_family(str(write_toy(tmp_path_factory.mktemp("toys") / name, name)))
        found[name] = {}
        for part in parts_of(family):
            tensors = family.part_tensors(part)
            chosen = usual_stems(family, part, tensors, convolutions=True)
            found[name] |= {stem: tensors[key].shape for stem, key in chosen.items()}
    return found


def file_of(shapes: dict[str, torch.Size], alpha: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """A LoRA of rank 4 for every layer."""
    source, layers = torch.Generator().manual_seed(0), {}
    for stem, (outputs, inputs, *rest) in shapes.items():
        down = torch.randn(4, inputs, *rest, generator=source).to(dtype)
        up = torch.randn(outputs, 4, *[1 for _ in rest], generator=source).to(dtype)
        layers[stem] = LoraWeights(down, up, alpha)
    return to_kohya(layers)


def deltas(tensors: dict[str, Tensor], metadata: dict[str, str], xl: bool) -> dict[str, Tensor]:
    found = parse_adapter(tensors, metadata, "x")
    return {usual_stem(stem, xl): layer.delta() for stem, layer in found.items()}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("alpha", "dtype"), [(2.0, torch.float32), (1.7, torch.float16), (3.0, torch.bfloat16)])
def test_every_layout_holds_the_same_and_every_way_leads_back(stems, name: str, alpha: float, dtype) -> None:
    before = file_of(stems[name], alpha, dtype)
    wanted = deltas(before, {}, name == "sdxl")
    files = {layout: convert(before, {"ss_seed": "1"}, layout, "x") for layout in LAYOUTS}
    assert is_xl(stems[name]) == (name == "sdxl")
    for tensors, metadata in files.values():
        found = deltas(tensors, metadata, name == "sdxl")
        assert found.keys() == wanted.keys() and metadata["ss_seed"] == "1"
        assert all(torch.allclose(found[stem], wanted[stem], rtol=1e-5, atol=1e-6) for stem in wanted)
    for first, second in itertools.permutations(LAYOUTS, 2):
        middle, told = convert(*files[first], second, "x")
        after, _ = convert(middle, told, "kohya", "x")
        assert after.keys() == before.keys()
        assert all(torch.equal(after[key].float(), before[key].float()) for key in before)
        assert {after[key].dtype for key in after if not key.endswith("alpha")} == {dtype}


def test_single_precision_comes_back_where_the_scale_is_a_power_of_two(stems) -> None:
    for alpha in (1.0, 4.0, 32.0):
        before = file_of(stems["sd1"], alpha)
        after, _ = convert(*convert(before, {}, "diffusers", "x"), "kohya", "x")
        assert all(torch.equal(after[key], before[key]) for key in before)
    before = file_of(stems["sd1"], 1.7)
    after, _ = convert(*convert(before, {}, "diffusers", "x"), "kohya", "x")
    assert all(torch.allclose(after[key], before[key], rtol=2e-7, atol=0) for key in before)


def test_pefts_own_scales_come_back(stems) -> None:
    shapes = dict(itertools.islice(stems["sd1"].items(), 6))
    tensors, _ = convert(file_of(shapes, 4.0), {}, "diffusers", "x")
    words = {"lora_adapter_metadata": json.dumps({"unet.r": 4, "unet.lora_alpha": 7, "text_encoder.lora_alpha": 3})}
    middle, told = convert(tensors, words, "kohya", "x")
    assert "lora_adapter_metadata" not in told, "diffusers takes both alphas and this for a mistake"
    for stem, delta in deltas(middle, told, False).items():
        torch.testing.assert_close(delta, deltas(tensors, words, False)[stem], rtol=1e-6, atol=1e-6)
    after, said = convert(middle, told, "diffusers", "x")
    assert said == words and all(torch.equal(after[key], tensors[key]) for key in tensors)


def test_files_for_diffusers_need_no_metadata(stems) -> None:
    """Programs that do not read them still get the strength right."""
    before = file_of(stems["sd2"], 1.0)
    tensors, _ = convert(before, {}, "diffusers", "x")
    assert {key.partition(".")[0] for key in tensors} == {"unet", "text_encoder"}
    for stem, delta in deltas(tensors, {}, False).items():
        torch.testing.assert_close(delta, deltas(before, {}, False)[stem], rtol=1e-6, atol=1e-6)


def test_original_names_are_those_of_checkpoints(stems) -> None:
    """By the toys' own table of names."""
    seen = 0
    for stem in stems["sd1"]:
        if stem.startswith("lora_unet"):
            dotted = next(iter(convert(file_of({stem: stems["sd1"][stem]}, 1.0), {}, "diffusers", "x")[0]))
            path = dotted.removeprefix("unet.").partition(".lora_")[0]
            expected = original_unet_name(path + ".weight").removesuffix(".weight")
            assert original_stem(stem, False) == "lora_unet_" + expected.replace(".", "_")
            assert usual_stem(original_stem(stem, False), False) == stem
            seen += 1
        else:
            assert original_stem(stem, False) == stem
    assert seen == 278
    assert all(original_stem(stem, True) == stem for stem in stems["sdxl"])


def test_one_alpha_for_all_in_kohyas_layout(stems) -> None:
    shapes = dict(itertools.islice(stems["sd1"].items(), 3))
    tensors = file_of(shapes, 4.0)
    first = next(iter(shapes))
    tensors[f"{first}.alpha"] = torch.tensor(1.0)
    after, told = convert(tensors, {}, "kohya", "x")
    assert {float(each) for key, each in after.items() if key.endswith("alpha")} == {4.0}
    assert set(json.loads(told[ORIGIN])["alphas"].values()) == {1.0, 4.0}
    middle, said = convert(after, told, "original", "x")
    again, noted = convert(middle, said, "kohya", "x")
    assert said == noted == told, "also what it was like at first is still known"
    wanted = deltas(tensors, {}, False)
    assert all(torch.equal(delta, wanted[stem]) for stem, delta in deltas(again, {}, False).items())


def test_a_scale_that_would_lose_something_is_taken_in_float32() -> None:
    tiny = torch.tensor([6e-8, 1.0], dtype=torch.float16)
    assert scaled(tiny, 2.0).dtype == torch.float16 and scaled(tiny, 1.0) is tiny
    assert scaled(tiny, 0.5).dtype == torch.float32 and scaled(tiny, 1.7).dtype == torch.float32
    assert torch.equal(scaled(tiny, 0.5) * 2, tiny.float())
