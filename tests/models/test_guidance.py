"""Guidance: several parts of a prompt, summed by hand."""

import pytest
import torch

from library.models.family import Condition
from library.models.guidance import Guidance, Predictor, guided_texts, joined_condition, texts_by_steps
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


def test_what_changes_on_the_way_is_read_once() -> None:
    rows = ((0, 1), (0, 1), (0, 2), (0, 2))
    assert texts_by_steps(["bad", "a [dog:cat:0.5]"], 4) == (["bad", "a dog", "a cat"], rows)
    assert texts_by_steps(["[a|b]", "b"], 3) == (["a", "b"], ((0, 1), (1, 1), (0, 1)))
    assert texts_by_steps(["bad", "a [dog]"], 4) == (["bad", "a [dog]"], ())


class Echo:
    """A family whose UNet answers with the first number of each row's condition."""

    def predict(self, unet: object, rows: torch.Tensor, timesteps: torch.Tensor, condition: Condition) -> torch.Tensor:
        return torch.ones_like(rows) * condition.hidden[:, 0, 0].view(-1, 1, 1, 1) + 0 * timesteps.view(-1, 1, 1, 1)


def test_each_step_is_guided_by_its_own_words() -> None:
    """One picture changes, the other does not; both have their own rows in the batch."""
    changing = Guidance(Condition(torch.tensor([1.0, 10.0, 100.0]).view(3, 1, 1)), (2.0,), ((0, 1), (0, 2), (0, 1)))
    steady = Guidance(Condition(torch.tensor([3.0, 5.0]).view(2, 1, 1)), (4.0,))
    for order in ([changing, steady], [steady, changing]):
        condition = joined_condition([each.condition for each in order], torch.device("cpu"))
        predict = Predictor(Echo(), torch.nn.Identity(), order, condition, torch.float32)
        found = []
        for step in range(4):
            predict.at(step)
            found.append(predict(torch.zeros(2, 1, 1, 1), torch.tensor(1.0)).flatten().tolist())
        expected = [[1 + 2 * 9, 11], [1 + 2 * 99, 11], [19, 11], [19, 11]]
        assert found == [row if order[0] is changing else row[::-1] for row in expected]
