"""One step from batches to weights: accumulated gradients, and dropout that belongs to the step."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from library.models.family import Condition
from library.train.learner import build_learner
from library.train.rates import part_rates
from library.train.training import Training


class Objective:
    """The loss of a sample is its draw times the sum of the weights, some of which dropout takes away."""

    def question(self, family, batch) -> None:
        return None

    def losses(self, family, unet, batch, condition, question) -> torch.Tensor:
        noisy = torch.nn.functional.dropout(torch.ones(64), 0.5)
        return torch.tensor(batch.draws) * unet.sum() * noisy.mean()


@pytest.fixture
def train(settings_of, compute, tiny):
    """Does one step with some draws, cut into batches, and returns its loss and the weights after it."""

    def step(*batches: list[float], number: int = 0, seed: int = 7, prior=None) -> tuple[float, torch.Tensor]:
        tiny.load({part: torch.full((2, 2), 0.5) for part in tiny.layers})
        plain = {"optimizer_type": "SGDNesterov", "optimizer_args": ["momentum=0.0", "nesterov=False"]}
        settings = settings_of(**plain, max_grad_norm=0)
        learner = build_learner(settings, tiny, part_rates(settings), compute, 4)
        reader = SimpleNamespace(read=lambda captions: Condition(torch.zeros(1)))
        model = SimpleNamespace(family=None, unet=tiny.matrices["unet"], reader=reader, learner=learner)
        model.prior, model.teacher = prior, None
        model.number_format = lambda compute: nullcontext()
        training = Training(model, None, Objective(), None, compute, seed)
        parts = [SimpleNamespace(draws=draws, captions=[], names=["a.png"] * len(draws)) for draws in batches]
        loss, _ = training.step(number, parts)
        return loss.item(), tiny.matrices["unet"].detach().clone()

    return step


def test_a_step_follows_the_loss(train) -> None:
    loss, weights = train([1.0, 2.0])
    assert 0 < loss < 12
    assert (weights < 0.5).all()
    assert train([0.0, 0.0])[0] == 0


def test_batches_add_up(train) -> None:
    together = train([1.0], [2.0], [3.0])
    parts = [train([1.0])[0]]  # the first draws the same dropout in both
    assert together[0] > parts[0]
    assert torch.equal(train([0.0], [2.0])[1], train([0.0, 0.0], [1.0, 1.0])[1])


def test_dropout_belongs_to_the_step(train) -> None:
    torch.manual_seed(1)
    first = train([1.0], number=3)
    torch.manual_seed(2)
    torch.rand(5)
    assert train([1.0], number=3)[0] == first[0]
    assert train([1.0], number=4)[0] != first[0]
    assert train([1.0], number=3, seed=8)[0] != first[0]


def test_the_prior_adds_to_the_loss(train) -> None:
    prior = SimpleNamespace(losses=lambda model, objective, batch, question: model.unet.sum() * torch.ones(3))
    alone, both = train([1.0]), train([1.0], prior=prior)
    assert both[0] == pytest.approx(alone[0] + 6)  # 3 samples times 4 weights of 0.5
    assert torch.allclose(alone[1] - both[1], torch.full((2, 2), alone[1][0, 0] - both[1][0, 0]))
    assert (both[1] < alone[1]).all()
