"""LoRA+: second matrices in groups of their own, faster by the ratio that was asked for."""

import pytest
import torch

from library.errors import InputError
from library.train.loraplus import PLUS, is_loraplus, loraplus_ratios, parameter_groups, part_of_group
from library.train.model import build_model

ONLY_TEXT = {"network_train_text_encoder_only": True}


@pytest.mark.parametrize(
    ("arguments", "ratios"),
    [
        ([], {}),
        (["loraplus_lr_ratio=16"], {"unet": 16, "text_encoder": 16, "text_encoder_2": 16}),
        (["loraplus_unet_lr_ratio=4"], {"unet": 4}),
        (["loraplus_text_encoder_lr_ratio=4"], {"text_encoder": 4, "text_encoder_2": 4}),
        (
            ["loraplus_lr_ratio=16", "loraplus_text_encoder_lr_ratio=1"],
            {"unet": 16},
        ),
    ],
)
def test_ratios(settings_of, arguments: list[str], ratios: dict) -> None:
    settings = settings_of(**({"network_args": arguments} if arguments else {}))
    assert loraplus_ratios(settings, ["unet", "text_encoder", "text_encoder_2", "embedding"]) == ratios


@pytest.mark.parametrize("value", ["0", "-1", "much", "nan", "inf"])
def test_what_is_no_ratio(settings_of, value: str) -> None:
    with pytest.raises(InputError, match=f"loraplus_unet_lr_ratio must be a number above 0.*'{value}'"):
        loraplus_ratios(settings_of(network_args=[f"loraplus_unet_lr_ratio={value}"]), ["unet"])


def test_names() -> None:
    assert is_loraplus("loraplus_lr_ratio") and not is_loraplus("conv_dim")
    assert part_of_group(f"unet{PLUS}") == part_of_group("unet") == "unet"


def test_groups_of_a_lora(settings_of, family, compute) -> None:
    settings = settings_of(**ONLY_TEXT, network_args=["loraplus_lr_ratio=16"], learning_rate=0.01)
    model = build_model(settings, family, compute, 4, ["a"])
    slow, fast = model.learner.optimizer.param_groups
    assert (slow["name"], fast["name"]) == ("text_encoder", "text_encoder plus")
    layers = list(model.learner.learned.layers["text_encoder"].values())
    assert [id(each) for each in slow["params"]] == [id(layer.lora_A["default"].weight) for layer in layers]
    assert [id(each) for each in fast["params"]] == [id(layer.lora_B["default"].weight) for layer in layers]
    assert model.learner.rates() == {"lr/text_encoder": 0.01, "lr/text_encoder plus": 0.16}
    plain = build_model(settings_of(**ONLY_TEXT, learning_rate=0.01), family, compute, 4, ["a"])
    (one,) = plain.learner.optimizer.param_groups
    assert len(one["params"]) == len(slow["params"]) + len(fast["params"])


def test_second_matrices_go_as_much_farther(settings_of, family, compute) -> None:
    """One step of plain descent, in which they alone learn: the first ones' gradients are 0 at the start."""

    def moved(*arguments: str) -> torch.Tensor:
        settings = settings_of(**ONLY_TEXT, optimizer_type="SGD", max_grad_norm=0, network_args=[*arguments])
        model = build_model(settings, family, compute, 4, ["a"])
        learner = model.learner
        learner.backward(sum((each * each.numel()).sum() for each in learner.parameters))
        learner.step()
        layer = next(iter(learner.learned.layers["text_encoder"].values()))
        return layer.lora_B["default"].weight.detach()

    torch.testing.assert_close(moved("loraplus_lr_ratio=4"), 4 * moved("loraplus_lr_ratio=1"))


def test_what_has_no_second_matrix_is_refused(tiny) -> None:
    tiny.layers["unet"]["a"] = object()
    with pytest.raises(InputError, match="loraplus_lr_ratio is for adapters with two matrices"):
        parameter_groups(tiny, {"unet": 1.0}, {"unet": 4.0})
    (group,) = parameter_groups(tiny, {"unet": 1.0}, {})
    assert group["name"] == "unet" and group["params"] == tiny.parameters("unet")


def test_both_groups_stop_with_their_part(settings_of, family, compute) -> None:
    changes = {"stop_text_encoder_training": 1, "network_args": ["loraplus_lr_ratio=16"], "max_train_steps": 4}
    model = build_model(settings_of(**changes), family, compute, 4, ["a"])
    learner = model.learner
    text = [each for group in learner.optimizer.param_groups if "text" in group["name"] for each in group["params"]]
    assert text and all(each.requires_grad for each in text)
    learner.backward(sum(each.sum() for each in learner.parameters))
    learner.step()
    assert not any(each.requires_grad for each in text)
    assert any(each.requires_grad for each in learner.parameters)
