"""Singular values and low-rank forms: as torch's own SVD finds them, with the ranks that were asked for."""

import pytest
import torch

from library.adapters.decomposition import RankRule, layer_spectrum, low_rank, product_spectrum, spectrum
from library.adapters.keys import LoraWeights

VALUES = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16), (1, 9)])
def test_the_spectrum_is_that_of_torchs_svd(shape: tuple[int, int]) -> None:
    matrix = drawn(*shape)
    found = spectrum(matrix)
    torch.testing.assert_close(found.values, torch.linalg.svdvals(matrix), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.left * found.values @ found.right, matrix, rtol=1e-5, atol=1e-5)
    for vectors in (found.left.T @ found.left, found.right @ found.right.T):
        torch.testing.assert_close(vectors, torch.eye(min(shape)), rtol=0, atol=1e-5)


def test_nothing_has_a_spectrum_too() -> None:
    found = spectrum(torch.zeros(4, 6))
    assert found.values.tolist() == [0] * 4 and found.right.isfinite().all()
    assert RankRule(energy=0.9).rank(found.values) == 1
    layer = low_rank(found, 2, torch.Size((4, 6)))
    assert layer.delta().abs().max() == 0


@pytest.mark.parametrize("rank", [3, 30])
def test_a_product_is_decomposed_without_being_made(rank: int) -> None:
    """Also where the rank is above that of any matrix of this size."""
    up, down = drawn(20, rank), drawn(rank, 12, seed=1)
    found, expected = product_spectrum(up, down), spectrum(up @ down)
    count = min(rank, 12)
    torch.testing.assert_close(found.values[:count], expected.values[:count], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.left * found.values @ found.right, up @ down, rtol=1e-4, atol=1e-4)


def test_a_layers_scale_counts() -> None:
    layer = LoraWeights(drawn(4, 6, 3, 3), drawn(8, 4, 1, 1, seed=1), 1.0)
    whole = spectrum(layer.delta().flatten(1))
    torch.testing.assert_close(layer_spectrum(layer).values, whole.values[:4], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "rank"),
    [
        (RankRule(), 5),
        (RankRule(3), 3),
        (RankRule(9), 5),
        (RankRule(energy=80 / 85), 2),
        (RankRule(energy=80.1 / 85), 3),
        (RankRule(energy=1.0), 4),
        (RankRule(2, energy=1.0), 2),
        (RankRule(energy=0.1), 1),
        (RankRule(cumulative=0.8), 2),
        (RankRule(cumulative=0.81), 3),
        (RankRule(ratio=4), 3),
        (RankRule(ratio=3.9), 2),
        (RankRule(1, ratio=4), 1),
    ],
)
def test_ranks(rule: RankRule, rank: int) -> None:
    assert rule.rank(VALUES) == rank


@pytest.mark.parametrize("shape", [(10, 14), (10, 6, 1, 1), (12, 5, 3, 3)])
def test_the_low_rank_form_is_the_nearest(shape: tuple[int, ...]) -> None:
    change = drawn(*shape)
    found = spectrum(change.flatten(1))
    layer = low_rank(found, 4, change.shape)
    assert layer.delta().shape == change.shape and layer.rank == 4 and layer.scale == 1
    assert layer.up.ndim == layer.down.ndim == change.ndim
    missed = (change - layer.delta()).square().sum()
    torch.testing.assert_close(missed, found.values[4:].square().sum(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.up.norm(), layer.down.norm(), rtol=1e-5, atol=0)
    whole = low_rank(found, len(found.values), change.shape)
    torch.testing.assert_close(whole.delta(), change, rtol=1e-4, atol=1e-5)


def test_a_clamp_cuts_the_largest_values_only() -> None:
    change = drawn(20, 30)
    found = spectrum(change)
    free, cut = (low_rank(found, 5, change.shape, clamp) for clamp in (None, 0.9))
    sizes = torch.cat([free.up.flatten(), free.down.flatten()]).abs()
    limit = max(float(cut.up.abs().max()), float(cut.down.abs().max()))
    assert float((sizes > limit).float().mean()) == pytest.approx(0.1, abs=0.01)
    inside = free.up.abs() <= limit
    assert torch.equal(cut.up[inside], free.up[inside]) and not inside.all()
    assert torch.equal(low_rank(found, 5, change.shape, 1.0).up, free.up)
