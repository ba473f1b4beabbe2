"""What every kind of adapter can do."""

import inspect

import pytest

from library.adapters.kinds import Kind, Options
from library.lookup import ADAPTERS, NORMS, resolve

METHODS = {name for name, each in vars(Kind).items() if inspect.isfunction(each) and not name.startswith("_")}


@pytest.mark.parametrize("name", [*ADAPTERS, "norm"])
def test_every_kind_can_do_all(name: str) -> None:
    kind = resolve(ADAPTERS.get(name, NORMS))
    assert len(METHODS) >= 12
    for method in METHODS:
        own, needed = inspect.signature(getattr(kind, method)), inspect.signature(getattr(Kind, method))
        assert list(own.parameters) == list(needed.parameters)[1:], method
    assert kind.module.startswith(("networks.", "lycoris.", "hypernetwork")) and isinstance(kind.told, dict)
    assert kind.fitted(Options()) is kind
