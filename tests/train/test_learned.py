"""What every kind of thing that learns has to do: adapters, and whole parts of a model."""

import inspect

import pytest
import torch

from library.train.learned import Learned
from library.train.model import build_network
from library.train.whole import WholeModel

KINDS = ("network", "whole")


@pytest.fixture
def learned_of(settings_of, family):
    """Something that learns on or of the toy's UNet and text encoder."""

    def _learned(kind: str):
        modules = {"unet": family.load_unet(torch.float32)}
        modules["text_encoder"] = family.load_text_encoders(torch.float32)[0]
        return WholeModel(modules) if kind == "whole" else build_network(settings_of(), family, modules)

    return _learned


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_all_that_is_asked(learned_of, kind: str) -> None:
    learned = learned_of(kind)
    for name, wanted in inspect.getmembers(Learned, inspect.isfunction):
        if not name.startswith("_"):
            assert list(inspect.signature(getattr(learned, name)).parameters) == list(
                inspect.signature(wanted).parameters
            )[1:]
    assert list(learned.layers) == ["unet", "text_encoder"]
    for part in learned.layers:
        assert learned.layers[part] and all(each.requires_grad for each in learned.parameters(part))
    assert learned.parameters("vae") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_holds_everything_that_learns(learned_of, kind: str) -> None:
    learned, again = learned_of(kind), learned_of(kind)
    with torch.no_grad():
        for part in learned.layers:
            for number, parameter in enumerate(learned.parameters(part)):
                parameter.fill_(number + 0.5)
    state = learned.state_dict()
    with torch.no_grad():
        learned.parameters("unet")[0].zero_()  # the state is a copy
    again.load(state)
    for part in again.layers:
        for number, parameter in enumerate(again.parameters(part)):
            assert (parameter == number + 0.5).all()
