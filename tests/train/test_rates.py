"""Rates of each part and their course, and what is found wrong with them early."""

import pytest
import torch

from library.errors import InputError
from library.optim.schedules import Course
from library.settings import read_settings
from library.train.rates import check_learning, course_of, make_schedule, part_rates, step_rules, warmup_steps
from tests.runs import WHOLE


@pytest.mark.parametrize(
    ("changes", "rates"),
    [
        ({}, {"unet": 0.01, "text_encoder": 0.01}),
        ({"unet_lr": 0.1}, {"unet": 0.1, "text_encoder": 0.01}),
        ({"text_encoder_lr": 0}, {"unet": 0.01}),
        ({"network_train_unet_only": True, "text_encoder_lr": 0.5}, {"unet": 0.01}),
        ({"network_train_text_encoder_only": True, "text_encoder_lr": 0.5}, {"text_encoder": 0.5}),
        ({"learning_rate": 0, "unet_lr": 0.2}, {"unet": 0.2}),
        ({"learning_rate_te1": 0.2}, {"unet": 0.01, "text_encoder": 0.2}),
    ],
)
def test_rates_of_parts(settings_of, changes, rates) -> None:
    assert part_rates(settings_of(**changes)) == rates


def test_text_encoders_of_whole_models(bench) -> None:
    def rates(**changes) -> dict[str, float]:
        settings = read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth")
        return part_rates(settings, ("text_encoder", "text_encoder_2"))

    assert rates() == {"unet": 0.001}
    both = {"text_encoder": 1e-6, "text_encoder_2": 1e-6}
    assert rates(train_text_encoder=True, learning_rate_te=1e-6) == {"unet": 0.001, **both}
    assert rates(train_text_encoder=True, learning_rate_te=1e-6, unet_lr=0) == both
    assert rates(unet_lr=0.5, stop_text_encoder_training=-1) == {"unet": 0.5}
    each = rates(train_text_encoder=True, learning_rate_te=1e-6, learning_rate_te2=1e-7)
    assert each == {"unet": 0.001, "text_encoder": 1e-6, "text_encoder_2": 1e-7}
    alone = rates(train_text_encoder=True, unet_lr=0, learning_rate_te1=0, learning_rate_te2=1e-7)
    assert alone == {"text_encoder_2": 1e-7}


def test_each_text_encoder_may_have_its_own_rate(settings_of) -> None:
    rates = part_rates(settings_of(text_encoder_lr=0.1, learning_rate_te2=0.2), ("text_encoder", "text_encoder_2"))
    assert rates == {"unet": 0.01, "text_encoder": 0.1, "text_encoder_2": 0.2}
    check_learning(settings_of(unet_lr=0, text_encoder_lr=0, learning_rate_te2=0.2))


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptation", "DAdaptAdam", "DAdaptAdan", "DAdaptAdaGrad", "DAdaptLion"])
def test_what_finds_its_own_rate_has_one_for_all_parts(settings_of, capsys, name: str) -> None:
    """sd-scripts warns and goes on, and most of these then stop in their first step; ours learn with the highest."""
    settings = settings_of(optimizer_type=name, unet_lr=1, text_encoder_lr=0.5, learning_rate_te2=0.2)
    both = ("text_encoder", "text_encoder_2")
    assert part_rates(settings, both) == {"unet": 1, **dict.fromkeys(both, 1)}
    check_learning(settings)
    said = capsys.readouterr().err
    assert "not 1 for unet, 0.5 for text_encoder, 0.2 for text_encoder_2; all learn with the highest, 1." in said
    assert "hardly learn" not in said
    check_learning(settings_of(optimizer_type=name, unet_lr=1, text_encoder_lr=0))
    check_learning(settings_of(optimizer_type=name, learning_rate=1))
    assert capsys.readouterr().err == ""


def test_wrong_arguments_are_found_early(settings_of) -> None:
    check_learning(settings_of(optimizer_args=["weight_decay=0.1"]))
    with pytest.raises(InputError, match='no argument "weight_decai".*"weight_decay"'):
        check_learning(settings_of(optimizer_args=["weight_decai=0.1"]))


@pytest.mark.parametrize(("given", "steps"), [(0, 0), (3, 3), (0.25, 10), (0.01, 0)])
def test_warmup(settings_of, given, steps: int) -> None:
    assert warmup_steps(settings_of(max_train_steps=40, lr_warmup_steps=given), 40) == steps


@pytest.mark.parametrize(
    ("changes", "course"),
    [
        ({}, Course(40)),
        ({"lr_scheduler": "cosine", "lr_decay_steps": 0.25, "lr_warmup_steps": 3}, Course(40, 3, 10)),
        ({"lr_scheduler": "rex", "lr_decay_steps": 7, "lr_scheduler_min_lr_ratio": 0.1}, Course(40, 0, 7, lowest=0.1)),
        (
            {"lr_scheduler_num_cycles": 3, "lr_scheduler_power": 2, "lr_scheduler_timescale": 9},
            Course(40, cycles=3, power=2.0, timescale=9),
        ),
    ],
)
def test_courses(settings_of, changes: dict, course: Course) -> None:
    assert course_of(settings_of(max_train_steps=40, **changes), 40) == course


@pytest.mark.parametrize("written", ["step_rules=1:10,0.1", "step_rules='1:10,0.1'", 'step_rules="1:10,0.1"'])
def test_rules_with_and_without_quotation_marks(settings_of, written: str) -> None:
    settings = settings_of(lr_scheduler="piecewise_constant", lr_scheduler_args=[written])
    assert step_rules(settings) == "1:10,0.1" and step_rules(settings_of()) == ""


def test_a_schedule_of_the_table_or_any_other(settings_of) -> None:
    def rates(**changes) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
        schedule, found = make_schedule(settings_of(**changes), optimizer, 4), []
        for _ in range(4):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    assert rates(lr_scheduler="linear") == [1, 0.75, 0.5, 0.25]
    assert rates(lr_scheduler_type="StepLR", lr_scheduler_args=["step_size=2", "gamma=0.5"]) == [1, 1, 0.5, 0.5]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr_scheduler_type": "StepLR"}, "StepLR refuses its arguments"),
        ({"lr_scheduler": "piecewise_constant", "lr_scheduler_args": ["step_rules=1:a,1"]}, "step_rules is"),
        ({"network_args": ["loraplus_lr_ratio=much"]}, "loraplus_lr_ratio must be a number above 0"),
        ({"optimizer_type": "no_such.Thing"}, "pip install no_such"),
        ({"optimizer_type": "DAdaptSGD", "lr_warmup_steps": 2}, "DAdaptSGD cannot begin with a learning rate of 0"),
        ({"optimizer_type": "AdamWScheduleFree", "scale_weight_norms": 1}, "scale_weight_norms cannot be set with"),
        (
            {"optimizer_type": "SGDScheduleFree", "token_string": "<new>", "init_word": "cat"},
            "token_string cannot be set with SGDScheduleFree",
        ),
        ({"optimizer_type": "Prodigy", "network_args": ["loraplus_lr_ratio=2"]}, "needs one learning rate for all"),
    ],
)
def test_mistakes_are_found_early(settings_of, changes: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_learning(settings_of(**changes))


@pytest.mark.parametrize(("name", "rate", "told"), [("Prodigy", 1e-4, 1), ("Prodigy", 1, 0), ("AdamW", 1e-4, 0)])
def test_a_rate_far_too_low_is_told(settings_of, capsys, name: str, rate: float, told: int) -> None:
    check_learning(settings_of(optimizer_type=name, learning_rate=rate))
    assert capsys.readouterr().err.count("it will hardly learn, so set them to 1") == told
