"""Classes named with dots: found, refused where they are none, and their arguments checked by name."""

import pytest
from torch.optim import Optimizer

from library.errors import InputError
from library.optim.classes import check_names, dotted_target, load_class


class Plain(Optimizer):
    """Has one argument."""

    def __init__(self, params, lr, warmth=0.0) -> None:
        super().__init__(params, {"lr": lr, "warmth": warmth})


class Open(Plain):
    """Takes any."""

    def __init__(self, params, lr, warmth=0.0, **rest) -> None:
        super().__init__(params, lr, warmth)


def test_dots() -> None:
    assert dotted_target("torch.optim.RAdam") == "torch.optim:RAdam"
    assert load_class("torch.optim:RAdam", "RAdam", "s", Optimizer).__name__ == "RAdam"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("torch.optim:Nothing", "s: torch.optim has no Nothing."),
        (
            "no_such_thing.at.all:Adam",
            "N needs a package that is not installed; install it with: pip install no_such",
        ),
        ("pytorch_optimizerx:Adam", "pip install pytorch_optimizerx"),
        ("math:tau", "s: N is no class made from torch's Optimizer."),
        ("pathlib:Path", "s: N is no class made from torch's Optimizer."),
    ],
)
def test_what_is_not_there(target: str, words: str) -> None:
    with pytest.raises(InputError) as told:
        load_class(target, "N", "s", Optimizer)
    assert words in str(told.value)


def test_names_of_arguments() -> None:
    check_names("s", "N", Plain, ["warmth"])
    check_names("s", "N", Open, ["warmth", "anything"])
    with pytest.raises(InputError, match='s: N has no argument "warmht" .did you mean "warmth"..; it has warmth.'):
        check_names("s", "N", Plain, ["warmht"])
    for kind in (Plain, Open):
        with pytest.raises(InputError, match='no argument "lr"'):
            check_names("s", "N", kind, ["lr"])
