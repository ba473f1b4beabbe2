"""LoHa's product, and its gradients, which are computed by hand."""

import torch

from library.adapters.loha import Hadamard


def test_gradients_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    shapes = ((5, 2), (2, 7), (5, 2), (2, 7))
    matrices = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(Hadamard.apply, matrices)
    a, b, c, d = matrices
    assert torch.equal(Hadamard.apply(*matrices), (a @ b) * (c @ d))
