"""Guidance: several parts of a prompt, summed by hand."""

import pytest
import torch

from library.models.family import Condition
from library.models.guidance import Guidance, guided_texts, joined_condition
from library.models.prompts import Prompt


@pytest.mark.parametrize(
    ("text", "guidance", "texts", "factors"),
    [
        ("a dog", 5.0, ["bad", "a dog"], (5.0,)),
        ("a dog", 1.0, ["a dog"], ()),
        ("a AND b :0.5", 5.0, ["bad", "a", "b"], (5.0, 2.5)),
        ("a :-1 AND b", 0.5, ["bad", "a", "b"], (-1.0, 1.0)),
    ],
)
def test_what_is_read(text: str, guidance: float, texts: list[str], factors: tuple[float, ...]) -> None:
    assert guided_texts(Prompt(text, "bad", guidance=guidance)) == (texts, factors)


def test_answers_are_summed() -> None:
    negative, one, two = (torch.full((1, 4, 2, 2), value) for value in (1.0, 3.0, -2.0))
    condition = Condition(torch.zeros(3, 77, 8))
    found = Guidance(condition, (5.0, 0.5)).combined(torch.cat([negative, one, two]))
    torch.testing.assert_close(found, torch.full((1, 4, 2, 2), 1 + 5 * 2 + 0.5 * -3.0))
    assert torch.equal(Guidance(condition).combined(one), one)


def test_conditions_become_one_batch() -> None:
    one, two = Condition(torch.ones(1, 77, 8), torch.ones(1, 3)), Condition(torch.zeros(2, 77, 8), torch.zeros(2, 3))
    both = joined_condition([one, two], torch.device("cpu"))
    assert both.hidden.shape == (3, 77, 8) and both.pooled is not None and both.pooled.sum() == 3
    assert both.sizes is None
