"""Adapters of several kinds as one LoRA: against singular values of changes that are summed another way."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from library.adapters.approximation import approximate
from library.adapters.changes import read_changes
from library.adapters.combining import Share
from library.adapters.decomposition import RankRule
from library.errors import InputError
from library.weights import save_tensors

LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
CONV = "lora_unet_down_blocks_0_resnets_0_conv1"
NORM = "lora_unet_mid_block_attentions_0_norm"
SHAPES = {LINEAR: (8, 6), CONV: (8, 4, 3, 3)}
CPU = torch.device("cpu")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BASE = {stem: drawn(*shape, seed=9) for stem, shape in SHAPES.items()}


def leaves_of(kind: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    outputs, inputs, *kernel = shape
    flat = inputs * (9 if kernel else 1)
    if kind in ("lora", "dora"):
        ones = [1 for _ in kernel]
        leaves = {"lora_down.weight": drawn(2, inputs, *kernel), "lora_up.weight": drawn(outputs, 2, *ones, seed=1)}
        magnitude = 1 + drawn(1, inputs, *ones, seed=2).abs()
        return leaves | {"alpha": torch.tensor(1.0)} | ({"dora_scale": magnitude} if kind == "dora" else {})
    if kind == "loha":
        pairs = {f"hada_w{n}_{side}": (outputs, 2) if side == "a" else (2, flat) for n in (1, 2) for side in "ab"}
        return {name: drawn(*size, seed=n) for n, (name, size) in enumerate(pairs.items())} | {
            "alpha": torch.tensor(2.0)
        }
    if kind == "lokr":
        return {"lokr_w1": drawn(2, 2), "lokr_w2": drawn(outputs // 2, inputs // 2, *kernel, seed=3)}
    if kind == "ia3":
        return {"weight": drawn(outputs) if not kernel else drawn(1, outputs, 1, 1), "on_input": torch.tensor(0)}
    return {"diff": drawn(*shape, seed=4)}


def write(path: Path, kind: str, stems: tuple[str, ...] = (LINEAR, CONV), **more: Tensor) -> Path:
    tensors = {f"{stem}.{leaf}": each for stem in stems for leaf, each in leaves_of(kind, SHAPES[stem]).items()}
    save_tensors(path, tensors | {name.replace("__", "."): each for name, each in more.items()})
    return path


@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr", "ia3", "full"])
@pytest.mark.parametrize("rank", [3, 8])
def test_the_nearest_of_a_rank_to_the_exact_sum(tmp_path: Path, kind: str, rank: int) -> None:
    """What is missing is what the singular values beyond the rank are; at the whole rank nothing is."""
    stems = (LINEAR,) if kind == "ia3" else (LINEAR, CONV)
    one, two = write(tmp_path / "one.safetensors", kind, stems), write(tmp_path / "two.safetensors", "lora", stems)
    found = approximate([Share(one, 0.7), Share(two, -2.0)], RankRule(rank), torch.float32, CPU, BASE.get)
    missed = whole = 0.0
    for stem in stems:
        total = sum(w * read_changes(p)[stem].of(BASE[stem]) for w, p in ((0.7, one), (-2.0, two)))
        values = torch.linalg.svdvals(total.flatten(1))
        difference = (found.layers[stem].delta() - total).norm()
        torch.testing.assert_close(difference, values[rank:].norm(), rtol=1e-3, atol=2e-5)
        assert found.layers[stem].delta().shape == SHAPES[stem]
        missed, whole = missed + float(difference) ** 2, whole + float(values.square().sum())
    assert found.error == pytest.approx((missed / whole) ** 0.5, rel=1e-3, abs=1e-5)
    assert set(found.errors) == {one, two}
    if rank == 8:
        assert max(*found.errors.values(), found.error) < 1e-3


def test_each_files_own_loss(tmp_path: Path) -> None:
    """Two changes in different directions, one ten times as long: at rank 1 that one is kept and the other lost."""
    long, short = torch.zeros(8, 6), torch.zeros(8, 6)
    long[0, 0], short[3, 4] = 10.0, 1.0
    for name, each in {"long": long, "short": short}.items():
        save_tensors(tmp_path / f"{name}.safetensors", {f"{LINEAR}.diff": each})
    shares = [Share(tmp_path / f"{name}.safetensors") for name in ("long", "short")]
    found = approximate(shares, RankRule(1), torch.float32, CPU)
    assert {path.stem: round(error, 5) for path, error in found.errors.items()} == {"long": 0.0, "short": 1.0}
    assert found.error == pytest.approx(1 / 101**0.5)
    again = approximate(shares, RankRule(2), torch.float32, CPU)
    assert max(again.errors.values()) < 1e-3 and again.layers[LINEAR].rank == 2


def test_blocks_of_weight_0_count_for_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", "full")
    found = approximate([Share(path, 1.0, {"mid": 0.0})], RankRule(8), torch.float16, CPU)
    assert set(found.layers) == {CONV} and found.layers[CONV].down.dtype == torch.float16
    with pytest.raises(InputError, match="nothing is left of these files"):
        approximate([Share(path, 0.0)], RankRule(8), torch.float32, CPU)


def test_what_has_no_place_in_a_lora_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    norm = {f"{NORM}__w_norm": torch.ones(8), f"{NORM}__b_norm": torch.ones(8)}
    path = write(tmp_path / "a.safetensors", "full", (LINEAR,), **norm, **{f"{LINEAR}__diff_b": torch.ones(8)})
    found = approximate([Share(path)], RankRule(8), torch.float32, CPU)
    assert set(found.layers) == {LINEAR}
    assert "a LoRA has no place for 2 changes of norms and biases; they are left out" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["dora", "loha", "lokr", "ia3"])
def test_what_needs_the_base_model_says_so(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.safetensors", kind, (LINEAR,))
    with pytest.raises(InputError, match="a.safetensors says how to change a weight.*give --base, its base model"):
        approximate([Share(path)], RankRule(2), torch.float32, CPU)


def test_another_models_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", "full", (LINEAR,))
    with pytest.raises(InputError, match="has the layer .* which the base model has not"):
        approximate([Share(path)], RankRule(2), torch.float32, CPU, {}.get)
    with pytest.raises(InputError, match="made for a weight of shape"):
        approximate([Share(path)], RankRule(2), torch.float32, CPU, {LINEAR: torch.zeros(8, 7)}.get)
    other = tmp_path / "b.safetensors"
    save_tensors(other, {f"{LINEAR}.diff": torch.ones(8, 7)})
    with pytest.raises(InputError, match="not for the same base model"):
        approximate([Share(path), Share(other)], RankRule(2), torch.float32, CPU)
