"""The nearest Kronecker product: exact where there is one, else as near as the theorem says."""

import pytest
import torch

from library.adapters.changes import Change
from library.adapters.kronecker import nearest_kronecker


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("factor", [-1, 2])
def test_a_product_is_found_again(factor: int) -> None:
    small = {-1: (3, 4), 2: (2, 2)}[factor]
    change = torch.kron(drawn(*small), drawn(12 // small[0], 16 // small[1]))
    found = nearest_kronecker(change, factor)
    assert tuple(found.first.shape) == small and not found.is_split
    torch.testing.assert_close(found.delta(), change, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.kron(found.first, found.second[0]), change, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_nothing_is_nearer(kernel: tuple[int, ...]) -> None:
    """The rest is as long as the theorem says, and longer after any small step away."""
    change = drawn(12, 16, *kernel)
    found = nearest_kronecker(change, -1)
    rows = torch.stack([change[4 * a : 4 * a + 4, 4 * b : 4 * b + 4].flatten() for a in range(3) for b in range(4)])
    values = torch.linalg.svdvals(rows.double())
    rest = (change - found.delta()).norm()
    torch.testing.assert_close(rest.double(), values[1:].norm(), rtol=1e-4, atol=1e-5)
    for seed in range(5):
        step = 0.02 * torch.randn(found.second[0].shape, generator=torch.Generator().manual_seed(seed))
        assert (change - found._replace(second=(found.second[0] + step,)).delta()).norm() > rest


def test_the_second_factor_may_be_a_product_itself() -> None:
    change = torch.kron(drawn(2, 2), drawn(10, 3) @ drawn(3, 12))
    found = nearest_kronecker(change, 2, 3)
    assert found.is_split and found.rank == 3
    torch.testing.assert_close(found.delta(), change, rtol=1e-4, atol=1e-4)
    leaves = found.leaves(8.0)
    assert float(leaves["alpha"]) == 8.0 and Change("lokr", leaves).fits((20, 24))
    torch.testing.assert_close(Change("lokr", leaves).of(torch.zeros(20, 24)), change, rtol=1e-4, atol=1e-4)
    assert not nearest_kronecker(change, 2, 6).is_split, "as large as a whole one"
    assert nearest_kronecker(torch.zeros(4, 4), -1).delta().abs().max() == 0
