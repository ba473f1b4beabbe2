"""Whole parts of a model as something that learns."""

import pytest
import torch

from library.errors import InputError
from library.models.family import open_family
from library.train.whole import WholeModel
from tests.toy_families import write_toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    """A toy with two text encoders."""
    return write_toy(tmp_path_factory.mktemp("whole"), "sdxl")


def whole_of(folder, *parts: str, dtype: torch.dtype = torch.float32) -> WholeModel:
    """Some parts of the toy."""
    family = open_family(str(folder))
    modules = dict(zip(family.text_parts, family.load_text_encoders(dtype), strict=True))
    modules["unet"] = family.load_unet(dtype)
    return WholeModel({part: modules[part] for part in parts})


def test_all_weights_of_its_parts_learn(folder) -> None:
    whole = whole_of(folder, "unet", "text_encoder_2")
    assert len(whole.parameters("unet")) == 1680 and whole.parameters("text_encoder") == []
    assert set(whole.layers) == {"unet", "text_encoder_2"}
    for part, layers in whole.layers.items():
        assert all(each.requires_grad for each in whole.parameters(part))
        own = [each for layer in layers.values() for each in layer.parameters(recurse=False)]
        assert {id(each) for each in own} == {id(each) for each in whole.parameters(part)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_brings_everything_back(folder, dtype: torch.dtype) -> None:
    whole = whole_of(folder, "unet", "text_encoder", dtype=dtype)
    state = whole.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {dtype}
    assert not any(name.startswith("text_encoder.text_model.") for name in state)
    with torch.no_grad():
        for parameter in (*whole.parameters("unet"), *whole.parameters("text_encoder")):
            parameter.add_(1)
    assert not torch.equal(whole.tensors()["unet"]["conv_in.weight"], state["unet.conv_in.weight"])  # it was a copy
    whole.load(state)
    now = whole.state_dict()
    assert now.keys() == state.keys() and all(torch.equal(now[name], state[name]) for name in state)
    assert now["unet.conv_in.weight"].data_ptr() != whole.tensors()["unet"]["conv_in.weight"].data_ptr()


@pytest.mark.parametrize("change", ["missing", "unknown", "shape", "format"])
def test_another_state_is_refused(folder, change: str) -> None:
    whole = whole_of(folder, "text_encoder")
    state = whole.state_dict()
    name = "text_encoder.final_layer_norm.weight"
    if change == "missing":
        del state[name]
    elif change == "unknown":
        name = "unet.conv_in.weight"
        state[name] = torch.zeros(2)
    else:
        state[name] = state[name][:-1] if change == "shape" else state[name].half()
    before = whole.state_dict()
    with pytest.raises(InputError, match=f"does not fit this model: {name} is not the same"):
        whole.load(state)
    assert all(torch.equal(before[key], tensor) for key, tensor in whole.state_dict().items())
