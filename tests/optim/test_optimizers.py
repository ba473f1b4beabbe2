"""Every optimizer of the table: it learns, its state goes through a file, its arguments are its own."""

import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from library.errors import InputError
from library.lookup import OPTIMIZERS
from library.optim.optimizers import (
    averaged,
    averages_itself,
    build_optimizer,
    check_optimizer,
    describe,
    finds_own_rate,
    learning_rates,
    needs_one_rate,
)
from library.optim.schedules import Course, build_schedule

# 8-bit optimizers keep tensors under 4096 numbers in float32, so one of these is larger.
SHAPES = ((16, 320), (320, 16), (4, 8, 1, 1))
OWN_RATE = [name for name in OPTIMIZERS if name.startswith(("Prodigy", "DAdapt"))]
AVERAGING = [name for name in OPTIMIZERS if "ScheduleFree" in name]
# D-Adaptation goes too far on so few numbers with the rate of 1 that it is made for.
RATES = {"Prodigy": 1.0, "DAdaptSGD": 0.5} | dict.fromkeys(("SGD", "SGDNesterov", "SGDScheduleFree"), 0.05)
RATES |= {name: 0.1 for name in OWN_RATE if name not in RATES} | {"DAdaptAdaGrad": 1.0, "DAdaptLion": 1.0}
EVERY = [*OPTIMIZERS, "torch.optim.RAdam", "bitsandbytes.optim.AdEMAMix8bit"]


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


@pytest.mark.parametrize("name", EVERY)
def test_it_learns(name: str) -> None:
    parameters = start()
    before = [each.detach().clone() for each in parameters]
    losses = list(learn(parameters, build(name, parameters), range(60 if name == "DAdaptSGD" else 20)))
    assert losses[-1] < losses[0] - 0.01
    assert not any(torch.equal(*each) for each in zip(before, parameters, strict=True))


@pytest.mark.parametrize("name", EVERY)
def test_a_state_from_a_file_goes_on_as_if_unbroken(name: str, tmp_path: Path) -> None:
    unbroken = start()
    optimizer = build(name, unbroken)
    schedule = build_schedule("cosine", optimizer, Course(12, 0 if name == "DAdaptSGD" else 2))
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
    schedule = build_schedule("cosine", optimizer, Course(12, 0 if name == "DAdaptSGD" else 2))
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
    schedule = build_schedule("cosine", optimizer, Course(12, 0 if name == "DAdaptSGD" else 2))
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
    told = build_optimizer("adamw", groups, {"betas": "0.8, 0.95", "amsgrad": "True", "eps": 1e-6}).param_groups[0]
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
    check_optimizer("Prodigy", ["decouple=True", "weight_decay=0.01", "d_coef=2", "use_bias_correction=True"], rate=1.0)


def test_those_that_find_their_own_rate_and_those_that_average() -> None:
    groups = [{"params": start(), "lr": 1e-3}]
    assert [name for name in OPTIMIZERS if finds_own_rate(name)] == OWN_RATE and len(OWN_RATE) == 9
    assert [name for name in OPTIMIZERS if averages_itself(build_optimizer(name, groups))] == AVERAGING
    assert finds_own_rate("prodigyopt.Prodigy") and not finds_own_rate("torch.optim.Adam")
    assert needs_one_rate("prodigyopt.Prodigy") and not needs_one_rate("torch.optim.Adam")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_warmup_from_zero_is_tried(name: str) -> None:
    if name != "DAdaptSGD":
        check_optimizer(name, warms_up=True)
        return
    with pytest.raises(InputError, match="DAdaptSGD cannot begin with a learning rate of 0; leave out lr_warmup_steps"):
        check_optimizer(name, warms_up=True)


@pytest.mark.parametrize("name", OWN_RATE)
def test_one_rate_is_wanted_where_it_is_found(name: str) -> None:
    parameters = start()
    groups = [{"params": parameters[:2], "lr": 1.0}, {"params": parameters[2:], "lr": 0.5}]
    with pytest.raises(InputError, match=f"{name} finds the step size by itself and needs one learning rate"):
        build_optimizer(name, groups)


@pytest.mark.parametrize("name", AVERAGING)
def test_averages_are_those_of_the_paper(name: str) -> None:
    """Equations 3 to 5 of arXiv 2405.15682: y = (1 - b) z + b x is learned at, and x is the average of all z."""
    parameters = start()
    optimizer = build(name, parameters)
    seen = []
    for step in range(9):
        list(learn(parameters, optimizer, range(step, step + 1)))
        seen.append(optimizer.state[parameters[2]]["z"].clone())
    learned_at = parameters[2].detach().clone()
    with averaged(optimizer):
        mean = parameters[2].detach().clone()
    group = optimizer.param_groups[1]
    share = group["betas"][0] if "betas" in group else group["momentum"]
    torch.testing.assert_close(share * mean + (1 - share) * seen[-1], learned_at)
    if name != "RAdamScheduleFree":  # which gives its first steps no weight
        torch.testing.assert_close(mean, torch.stack(seen).mean(0))
    assert not torch.equal(mean, learned_at)


@pytest.mark.parametrize("name", EVERY)
def test_looking_at_averages_changes_nothing(name: str) -> None:
    """A run that saves and draws on the way learns, to the bit, what one without that learns."""
    plain, looked = start(), start()
    optimizer, other = build(name, plain), build(name, looked)
    for step in range(6):
        list(learn(plain, optimizer, range(step, step + 1)))
        list(learn(looked, other, range(step, step + 1)))
        with averaged(other):
            far = not torch.equal(looked[2], plain[2])
        assert torch.equal(looked[0], plain[0])
    assert far == (name in AVERAGING)
    with pytest.raises(KeyError), averaged(other):
        raise KeyError
    assert all(torch.equal(*each) for each in zip(plain, looked, strict=True))
    list(learn(looked, other, range(1)))  # it is ready to step again


def test_an_optimizer_may_be_any_class() -> None:
    groups = [{"params": start(), "lr": 1e-3}]
    built = build_optimizer("torch.optim.RAdam", groups, ["weight_decay=0.5"])
    assert isinstance(built, torch.optim.RAdam) and built.param_groups[0]["weight_decay"] == 0.5
    with pytest.raises(InputError, match='torch.optim.RAdam has no argument "wieght_decay".*"weight_decay"'):
        check_optimizer("torch.optim.RAdam", ["wieght_decay=1"])
    for name, words in {
        "torch.optim.NoSuch": "optimizer_type: torch.optim has no NoSuch",
        "no_such_package.Adam": "needs a package that is not installed; install it with: pip install no_such_package",
        "math.tau": "math.tau is no class made from torch's Optimizer",
        "collections.OrderedDict": "OrderedDict is no class made from",
    }.items():
        with pytest.raises(InputError, match=words):
            check_optimizer(name)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("AdamW8bit", "bitsandbytes.optim", "bitsandbytes"),
        ("Lion", "lion_pytorch", "lion-pytorch"),
        ("CAME", "came_pytorch", "came-pytorch"),
        ("Prodigy", "prodigyopt", "prodigyopt"),
        ("DAdaptAdam", "dadaptation", "dadaptation"),
        ("AdamWScheduleFree", "schedulefree", "schedulefree"),
    ],
)
def test_a_missing_package_is_told_with_its_command(
    name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing:
        def find_spec(self, wanted: str, path: object, target: object = None) -> None:
            if wanted == module or wanted.startswith(f"{module}."):
                raise ModuleNotFoundError(f"No module named {wanted!r}", name=wanted)

    for known in [each for each in sys.modules if each == module or each.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(InputError) as told:
        check_optimizer(name)
    assert told.value.sentences == (
        f"optimizer_type: {name} needs a package that is not installed; install it with: pip install {package}",
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


def test_one_that_splits_its_groups_may_have_a_rate_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ProdigyPlusScheduleFree does."""

    class Split(torch.optim.SGD):
        def __init__(self, params, lr=1.0, d0=1e-6, split_groups=True) -> None:
            super().__init__(params, lr)

    module = types.ModuleType("split")
    module.Split = Split
    monkeypatch.setitem(sys.modules, "split", module)
    parameters = start()
    groups = [{"params": parameters[:1], "lr": 1.0}, {"params": parameters[1:], "lr": 0.5}]
    assert learning_rates(build_optimizer("split.Split", groups, ())) == {"0": 1.0, "1": 0.5}
    assert finds_own_rate("split.Split") and not needs_one_rate("split.Split")


def test_rates_have_the_groups_names() -> None:
    parameters = start()
    groups = [{"params": parameters[:1], "lr": 1e-3, "name": "unet"}, {"params": parameters[1:], "lr": 1e-4}]
    assert learning_rates(build_optimizer("Lion", groups, ())) == {"unet": 1e-3, "1": 1e-4}


def test_an_optimizer_is_described_as_in_sd_scripts() -> None:
    optimizer = build_optimizer("AdamW", [{"params": start(), "lr": 1e-3}], ["weight_decay=0.1", "betas=0.9,0.99"])
    assert describe(optimizer, ["weight_decay=0.1", "betas=0.9,0.99"]) == (
        "torch.optim.adamw.AdamW(weight_decay=0.1,betas=(0.9, 0.99))"
    )


def test_an_unknown_optimizer_is_refused() -> None:
    with pytest.raises(InputError, match='optimizer_type: "AdamV" is not known.*did you mean "AdamW"'):
        check_optimizer("AdamV")
