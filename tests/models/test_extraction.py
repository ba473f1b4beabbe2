"""The difference of two models: what rank says is what comes out, in every family, form and number format."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.adapters.decomposition import RankRule
from library.adapters.keys import to_kohya
from library.adapters.merged import load_adapters
from library.adapters.metadata import save_adapter
from library.errors import InputError
from library.models.extraction import Wish, extract, is_equal
from library.models.family import Family, open_family
from library.models.saving import save_model
from library.models.stems import parts_of, usual_stems
from tests.toy_families import write_toy

FAMILIES = ("sd1", "sd2", "sdxl")
WHOLE = Wish(RankRule(4))


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Family]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: open_family(str(write_toy(folder / name, name))) for name in FAMILIES}


def tuned(base: Family, path: Path, parts: tuple[str, ...], rank: int, convolutions: bool = False) -> Family:
    """The same model with a change of this rank in every usual layer of some parts."""
    source, changed = torch.Generator().manual_seed(3), {}
    for part in parts:
        tensors = dict(base.part_tensors(part))
        for name in usual_stems(base, part, tensors, convolutions).values():
            shape = tensors[name].shape
            left, right = (
                torch.randn(shape[0], rank, generator=source),
                torch.randn(rank, shape[1:].numel(), generator=source),
            )
            tensors[name] = tensors[name] + 0.1 * (left @ right).reshape(shape)
        changed[part] = tensors
    save_model(path, base, changed, torch.float32, {})
    return open_family(str(path))


def modules_of(family: Family) -> dict[str, torch.nn.Module]:
    encoders = family.load_text_encoders(torch.float32)
    return {"unet": family.load_unet(torch.float32), **dict(zip(family.text_parts, encoders, strict=True))}


def tensors_of(family: Family) -> dict[str, Tensor]:
    return {f"{part} {key}": each for part in parts_of(family) for key, each in family.part_tensors(part).items()}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("target", ["tuned", "tuned.safetensors"])
def test_the_lora_on_the_base_is_the_tuned_model(bases, tmp_path: Path, name: str, target: str) -> None:
    base = bases[name]
    after = tuned(base, tmp_path / target, parts_of(base), 4)
    found = extract(base, after, WHOLE)
    assert [report.part for report in found.reports] == list(parts_of(base))
    assert all(report.error < 1e-4 and report.outside == 0 for report in found.reports)
    save_adapter(tmp_path / "lora.safetensors", to_kohya(found.layers), {})
    modules = modules_of(base)
    layers = {part: base.adapter_layers(module, part) for part, module in modules.items()}
    load_adapters([(tmp_path / "lora.safetensors", 1.0)], modules, layers)
    expected = modules_of(after)
    for part, module in modules.items():
        for key, values in expected[part].state_dict().items():
            torch.testing.assert_close(module.state_dict()[key], values, rtol=1e-4, atol=1e-4)


def test_too_low_a_rank_misses_what_it_says(bases, tmp_path: Path) -> None:
    base = bases["sd1"]
    after = tuned(base, tmp_path / "tuned", ("unet",), 6)
    found = extract(base, after, Wish(RankRule(2)))
    missed = whole = 0.0
    before, later = base.part_tensors("unet"), after.part_tensors("unet")
    for stem, name in usual_stems(base, "unet", before, False).items():
        change = later[name] - before[name]
        missed += float((change - found.layers[stem].delta()).square().sum())
        whole += float(change.square().sum())
    [report] = found.reports
    assert report.error == pytest.approx((missed / whole) ** 0.5, rel=1e-4) and 0.3 < report.error < 0.9
    assert set(report.ranks) == {2}


def test_energy_finds_the_rank_that_is_there(bases, tmp_path: Path) -> None:
    base = bases["sd1"]
    after = tuned(base, tmp_path / "tuned", ("unet",), 3)
    assert set(extract(base, after, Wish(RankRule(energy=1 - 1e-9))).reports[0].ranks) == {3}
    some = extract(base, after, Wish(RankRule(2, energy=0.7))).reports[0]
    assert set(some.ranks) <= {1, 2} and len(set(some.ranks)) == 2 and some.error <= 0.3**0.5 + 0.2


def test_a_part_that_is_equal_is_left_out(bases, tmp_path: Path) -> None:
    base = bases["sdxl"]
    found = extract(base, tuned(base, tmp_path / "tuned", ("text_encoder_2",), 2), WHOLE)
    assert {report.part for report in found.reports} == {"text_encoder_2"}
    assert all(stem.startswith("lora_te2_") for stem in found.layers)


def test_convolutions_come_along_if_asked(bases, tmp_path: Path) -> None:
    base = bases["sd1"]
    after = tuned(base, tmp_path / "tuned", ("unet",), 2, convolutions=True)
    without = extract(base, after, WHOLE).reports[0]
    whole = extract(base, after, Wish(RankRule(2), RankRule(2)))
    assert without.outside > 0.3 and len(without.ranks) == 192
    assert whole.reports[0].outside == 0 and whole.reports[0].error < 1e-4 and len(whole.layers) == 278
    stem = "lora_unet_down_blocks_0_resnets_0_conv1"
    assert whole.layers[stem].down.shape[2:] == (3, 3) and whole.layers[stem].up.shape[2:] == (1, 1)
    lower = extract(base, after, Wish(RankRule(2), RankRule(1)))
    assert lower.layers[stem].rank == 1 and lower.layers["lora_unet_down_blocks_0_resnets_0_time_emb_proj"].rank == 2


def test_a_rounded_copy_is_no_change(bases, tmp_path: Path) -> None:
    base = bases["sd1"]
    save_model(tmp_path / "half", base, {}, torch.float16, {})
    with pytest.raises(InputError, match="differ in nothing"):
        extract(base, open_family(str(tmp_path / "half")), WHOLE)
    numbers = torch.randn(9)
    assert is_equal(numbers, numbers.half()) and is_equal(numbers.half(), numbers)
    assert not is_equal(numbers, numbers.half() * 1.01)


def test_wrong_pairs_are_refused(bases, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sd1 and the tuned one sd2"):
        extract(bases["sd1"], bases["sd2"], WHOLE)
    base = bases["sd1"]
    only = tuned(base, tmp_path / "tuned", ("unet",), 1)
    tensors = dict(base.part_tensors("unet"))
    tensors["conv_in.weight"] = tensors["conv_in.weight"] + 1
    only.part_tensors = lambda part: tensors if part == "unet" else base.part_tensors(part)
    with pytest.raises(InputError, match="give --conv_dim"):
        extract(base, only, WHOLE)
    tensors["mid_block.attentions.0.proj_in.weight"] = torch.zeros(5, 5)
    with pytest.raises(InputError, match=r"not built alike: unet mid_block.attentions.0.proj_in.weight.*\(5, 5\)"):
        extract(base, only, WHOLE)
