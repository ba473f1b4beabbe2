"""The layer that all kinds of our own share: dropouts, start values, and what a wrong state or file is told."""

import pytest
import torch
from torch import nn

from library.adapters.changes import parse_changes
from library.adapters.kinds import Options, Size
from library.adapters.layer import AdapterLayer
from library.adapters.loha import LOHA
from library.adapters.lokr import LOKR
from library.adapters.low_rank import LOW_RANK
from library.errors import InputError


def layer_of(kind=LOHA, base: nn.Module | None = None, rank: int = 2, seed: int = 1, **options) -> AdapterLayer:
    model = nn.Sequential(base or nn.Linear(6, 8))
    layer = kind.inject(model, {"0": Size(rank, 1.0)}, Options(**options))["0"]
    kind.start(layer, seed)
    assert model[0] is layer
    for parameter in kind.parameters(layer):
        parameter.data += 0.1
    return layer


def test_start_values_belong_to_the_seed_alone() -> None:
    base = nn.Linear(6, 8)
    torch.manual_seed(0)
    stream = torch.get_rng_state()
    first = LOHA.state(layer_of(base=base))
    assert torch.equal(stream, torch.get_rng_state())
    torch.manual_seed(5)
    assert all(torch.equal(tensor, first[name]) for name, tensor in LOHA.state(layer_of()).items())
    assert not torch.equal(LOHA.state(layer_of(seed=2))["hada_w1_b"], first["hada_w1_b"])


def test_others_see_the_frozen_weight() -> None:
    layer = layer_of(base=nn.Linear(6, 8, bias=False))
    assert layer.weight is layer.base_layer.weight and layer.bias is None
    layer.enable_adapters(False)
    x = torch.randn(3, 6)
    assert torch.equal(layer(x), layer.base_layer(x))


@pytest.mark.parametrize("name", ["dropout", "rank_dropout", "module_dropout"])
@pytest.mark.parametrize("kind", [LOHA, LOW_RANK])
def test_dropouts(kind, name: str) -> None:
    """A dropped layer adds nothing; of inputs and ranks those that stay are made larger, so that the mean stays."""
    torch.manual_seed(0)
    layer, x = layer_of(kind, **{name: 0.5}).train(), torch.randn(1, 6)
    base, full = layer.base_layer(x), layer.eval()(x)
    layer.train()
    added = torch.stack([layer(x) - base for _ in range(4000)])
    share = 0.5 if name == "module_dropout" else 1.0
    torch.testing.assert_close(added.mean(0), share * (full - base), rtol=0.2, atol=0.05)
    assert len(added.flatten(1).unique(dim=0)) > 1
    if name == "module_dropout":
        assert 1800 < int((added.abs().sum((1, 2)) == 0).sum()) < 2200


def test_a_state_of_another_kind_or_rank_is_refused() -> None:
    layer = layer_of()
    for other in (layer_of(rank=3), layer_of(LOKR)):
        kind = LOKR if other.kind == "lokr" else LOHA
        with pytest.raises(InputError, match="does not fit this network at stem"):
            LOHA.restore(layer, kind.state(other), "stem")


def test_a_file_of_another_rank_or_shape_is_refused() -> None:
    def change(layer: AdapterLayer):
        return parse_changes({f"a.{leaf}": each for leaf, each in layer.export(1.0).items()}, {}, "f")["a"]

    layer = layer_of()
    with pytest.raises(InputError, match="loha of rank 3 at stem, and this network is loha of rank 2"):
        LOHA.take(layer, change(layer_of(rank=3)), "stem")
    with pytest.raises(InputError, match="missing or of another shape"):
        LOHA.take(layer, change(layer_of(base=nn.Linear(7, 8))), "stem")


def test_kinds_without_two_matrices_have_none() -> None:
    assert LOHA.faster(layer_of()) == []
    with pytest.raises(TypeError, match="no two matrices"):
        LOHA.weights(layer_of())
