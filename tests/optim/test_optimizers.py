"""Every optimizer of the table: it learns, its state goes through a file, its arguments are its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from library.errors import InputError
from library.lookup import OPTIMIZERS
from library.optim.optimizers import build_optimizer, check_optimizer, describe, learning_rates
from library.optim.schedules import build_schedule

# 8-bit optimizers keep tensors under 4096 numbers in float32, so one of these is larger.
SHAPES = ((16, 320), (320, 16), (4, 8, 1, 1))
RATES = {"Prodigy": 1.0, "SGDNesterov": 0.05}


def start() -> list[nn.Parameter]:
    """A first matrix of random values and zeros behind it, as in a LoRA."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) * 0.1 for shape in SHAPES]
    return [nn.Parameter(values[0]), nn.Parameter(torch.zeros(SHAPES[1])), nn.Parameter(values[2])]


def build(name: str, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Two groups, as the UNet and the text encoder are."""
    rate = RATES.get(name, 1e-3)
    groups = [{"params": parameters[:2], "lr": rate, "name": "unet"}, {"params": parameters[2:], "lr": rate}]
    return build_optimizer(name, [groups[0], groups[1] | {"name": "text_encoder"}], ())


def learn(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: range) -> Iterator[float]:
    """Learns to be 1 where the product of the first two is looked at, and everywhere in the third."""
    for step in steps:
        inputs = torch.randn(8, 320, generator=torch.Generator().manual_seed(step))
        outputs = inputs @ parameters[0].T @ parameters[1].T
        loss = (outputs - inputs).square().mean() + (parameters[2] - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_learns(name: str) -> None:
    parameters = start()
    before = [each.detach().clone() for each in parameters]
    losses = list(learn(parameters, build(name, parameters), range(60)))
    assert losses[-1] < losses[0] - 0.01
    assert not any(torch.equal(*each) for each in zip(before, parameters, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_from_a_file_goes_on_as_if_unbroken(name: str, tmp_path: Path) -> None:
    unbroken = start()
    optimizer = build(name, unbroken)
    schedule = build_schedule("cosine", optimizer, 12, 2)
    expected = []
    for step in range(12):
        expected += learn(unbroken, optimizer, range(step, step + 1))
        schedule.step()
    found = first_half(name, tmp_path) + second_half(name, tmp_path)
    assert found == expected
    finished = torch.load(tmp_path / "finished.pt", weights_only=True)
    assert all(torch.equal(*each) for each in zip(finished, unbroken, strict=True))


def first_half(name: str, folder: Path) -> list[float]:
    """Six steps, then everything into a file."""
    parameters = start()
    optimizer = build(name, parameters)
    schedule = build_schedule("cosine", optimizer, 12, 2)
    losses = []
    for step in range(6):
        losses += learn(parameters, optimizer, range(step, step + 1))
        schedule.step()
    values = [each.detach() for each in parameters]
    torch.save([values, optimizer.state_dict(), schedule.state_dict()], folder / "state.pt")
    return losses


def second_half(name: str, folder: Path) -> list[float]:
    """Six more in fresh objects that read the file."""
    parameters = start()
    optimizer = build(name, parameters)
    schedule = build_schedule("cosine", optimizer, 12, 2)
    values, *states = torch.load(folder / "state.pt", weights_only=True)
    for parameter, value in zip(parameters, values, strict=True):
        parameter.data.copy_(value)
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    losses = []
    for step in range(6, 12):
        losses += learn(parameters, optimizer, range(step, step + 1))
        schedule.step()
    torch.save([each.detach() for each in parameters], folder / "finished.pt")
    return losses


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_its_arguments_are_those_of_its_constructor(name: str) -> None:
    check_optimizer(name, ["weight_decay=0.25"])
    optimizer = build_optimizer(name, [{"params": start(), "lr": 1e-3}], ["weight_decay=0.25"])
    assert optimizer.param_groups[0]["weight_decay"] == 0.25
    with pytest.raises(InputError, match=f'{name} has no argument "wieght_decay".*"weight_decay".*it has .*'):
        build_optimizer(name, [{"params": start(), "lr": 1e-3}], ["wieght_decay=0.25"])
    with pytest.raises(InputError, match='has no argument "lr"'):
        check_optimizer(name, ["lr=1"])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("AdamW", ["weight_decay=-1"]),
        ("AdamW", ["weight_decay=much"]),
        ("AdamW", ["betas"]),
        ("AdamW", ["betas=0.9"]),
        ("AdamW8bit", ["betas=5,5"]),
        ("Lion", ["betas=1.5,0.9"]),
        ("Lion", ["weight_decay=None"]),
        ("Adafactor", ["relative_step=True"]),
        ("Prodigy", ["d0=0"]),
    ],
)
def test_values_that_an_optimizer_refuses_are_told(name: str, arguments: list[str]) -> None:
    with pytest.raises(InputError, match="optimizer_args"):
        check_optimizer(name, arguments)


def test_values_are_read_as_python() -> None:
    groups = [{"params": start(), "lr": 1e-3}]
    told = build_optimizer(
        "adamw", groups, {"betas": "0.8, 0.95", "amsgrad": "True", "eps": 1e-6}
    ).param_groups[0]
    assert (told["betas"], told["amsgrad"], told["eps"], told["fused"]) == ((0.8, 0.95), True, 1e-6, True)
    plain = build_optimizer("AdamW", groups, ["foreach=True"]).param_groups[0]
    assert plain["foreach"] and not plain["fused"]


def test_the_settings_of_sd_scripts_users_work() -> None:
    usual = ["scale_parameter=False", "relative_step=False", "warmup_init=False"]
    given, ours = ([*start()] for _ in range(2))
    for parameters, arguments in ((given, usual), (ours, [])):
        optimizer = build_optimizer("Adafactor", [{"params": parameters, "lr": 1e-3}], arguments)
        list(learn(parameters, optimizer, range(3)))
    assert all(torch.equal(*each) for each in zip(given, ours, strict=True))
    check_optimizer(
        "Prodigy", ["decouple=True", "weight_decay=0.01", "d_coef=2", "use_bias_correction=True"], rates=[1.0]
    )


def test_prodigy_wants_one_rate_and_tells_its_own() -> None:
    parameters = start()
    groups = [{"params": parameters[:2], "lr": 1.0, "name": "unet"}]
    with pytest.raises(InputError, match="Prodigy.*one learning rate.*0.5, 1.0"):
        build_optimizer("Prodigy", [*groups, {"params": parameters[2:], "lr": 0.5, "name": "te"}], ())
    optimizer = build_optimizer("Prodigy", groups, ())
    assert learning_rates(optimizer) == {"unet": 1e-6}
    list(learn(parameters, optimizer, range(30)))
    optimizer.param_groups[0]["lr"] = 0.5
    assert learning_rates(optimizer) == {"unet": 0.5 * optimizer.param_groups[0]["d"]}
    assert learning_rates(optimizer)["unet"] > 1e-5


def test_rates_have_the_groups_names() -> None:
    parameters = start()
    groups = [{"params": parameters[:1], "lr": 1e-3, "name": "unet"}, {"params": parameters[1:], "lr": 1e-4}]
    assert learning_rates(build_optimizer("Lion", groups, ())) == {"unet": 1e-3, "1": 1e-4}


def test_an_optimizer_is_described_as_in_sd_scripts() -> None:
    optimizer = build_optimizer(
        "AdamW", [{"params": start(), "lr": 1e-3}], ["weight_decay=0.1", "betas=0.9,0.99"]
    )
    assert describe(optimizer, ["weight_decay=0.1", "betas=0.9,0.99"]) == (
        "torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))"
    )


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(InputError, match='optimizer_type: "AdamV" is not known.*did you mean "AdamW"'):
        check_optimizer("AdamV")
