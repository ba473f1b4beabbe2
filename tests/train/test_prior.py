"""The base model's own prediction as a target: zero where nothing was learned, and unmoved by what is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from library.models.family import open_family
from library.train.captions import TextReader
from library.train.model import Model, build_model
from library.train.prior import prior_texts, whole_prior
from library.train.run import make_objective
from library.train.step import Batch, Objective, Question
from tests.toy_families import write_toy

CLASS = "a photo of dog"
SELF = {"prior_preservation": "self", "class_prompt": CLASS}


@pytest.fixture
def model_of(settings_of, family, compute):
    """A model with adapters on it, and its objective."""

    def _model(**changes) -> tuple[Model, Objective]:
        settings = settings_of(**{**SELF, **changes})
        captions = ["a photo of sks dog", *prior_texts(settings)]
        return build_model(settings, family, compute, 4, captions), make_objective(settings, family, compute)

    return _model


def batch_of(*draws: int, **changes) -> Batch:
    """Samples whose latents depend on their draws."""
    means = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(draw)) for draw in draws])
    weights = torch.full((len(draws),), 1 / len(draws))
    return Batch(means, torch.full_like(means, -20), ["a photo of sks dog"] * len(draws), weights, draws, **changes)


def prior_losses(model: Model, objective: Objective, batch: Batch) -> torch.Tensor:
    """What the prior makes of a batch."""
    return model.prior.losses(model, objective, batch, objective.question(model.family, batch))


def learn(model: Model, part: str = "unet") -> None:
    """Moves the adapters of a part somewhere."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.learner.learned.parameters(part):
            parameter += 0.3 * torch.randn_like(parameter)


def test_only_where_it_is_asked_for(model_of, settings_of) -> None:
    assert model_of()[0].prior.prompt == CLASS and prior_texts(settings_of(**SELF)) == [CLASS]
    for changes in ({"prior_preservation": None, "class_prompt": None}, {"prior_loss_weight": 0}):
        assert model_of(**changes)[0].prior is None
        assert prior_texts(settings_of(**{**SELF, **changes})) == []


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_zero_until_something_moves(model_of, part: str) -> None:
    model, objective = model_of()
    batch = batch_of(1, 2)
    assert prior_losses(model, objective, batch).tolist() == [0, 0]
    learn(model, part)
    losses = prior_losses(model, objective, batch)
    assert (losses > 1e-4).all()
    losses.sum().backward()
    assert all(parameter.grad is not None for parameter in model.learner.learned.parameters(part))
    assert max(each.grad.abs().max() for each in model.learner.learned.parameters(part)) > 0


def test_the_target_is_the_base_models(model_of) -> None:
    """Whatever the adapters say, also those on the text encoder; they work again afterwards."""
    model, objective = model_of()
    batch, seen = batch_of(1), []
    answer = objective.losses

    class Watched:
        def losses(self, family, unet, asked, condition, question: Question) -> torch.Tensor:
            seen.append(question.target)
            return answer(family, unet, asked, condition, question)

    question = objective.question(model.family, batch)
    for step in range(2):
        if step:
            learn(model, "unet")
            learn(model, "text_encoder")
        model.prior.losses(model, Watched(), batch, question)
    assert torch.equal(seen[0], seen[1]) and not seen[0].requires_grad
    before = model.reader.read([CLASS]).hidden
    with model.prior.base():
        assert not torch.equal(model.reader.read([CLASS]).hidden, before)
    assert torch.equal(model.reader.read([CLASS]).hidden, before)
    assert all(each.requires_grad for each in model.learner.parameters)


def test_weights_add_up_and_masks_do_not_count(model_of) -> None:
    model, objective = model_of()
    learn(model)
    plain = prior_losses(model, objective, batch_of(1, 2))
    black = batch_of(1, 2, mask=torch.zeros(2, 1, 8, 8))
    assert torch.equal(prior_losses(model, objective, black), plain)
    half = replace(batch_of(1, 2), weights=torch.tensor([0.25, 0.0]))
    assert torch.equal(prior_losses(model, objective, half), plain * torch.tensor([0.5, 0.0]))
    strong, _ = model_of(prior_loss_weight=3)
    learn(strong)
    torch.testing.assert_close(prior_losses(strong, objective, batch_of(1, 2)), 3 * plain)


def test_a_sample_is_the_same_in_every_batch(model_of) -> None:
    model, objective = model_of(min_snr_gamma=5)
    learn(model)
    together = prior_losses(model, objective, batch_of(1, 2))
    alone = torch.cat([prior_losses(model, objective, batch_of(draw)) for draw in (1, 2)])
    torch.testing.assert_close(together, alone / 2, rtol=1e-4, atol=1e-7)


def test_the_class_prompt_is_known_by_heart(model_of, family, monkeypatch) -> None:
    model, objective = model_of(network_train_unet_only=True)
    learn(model)
    assert not model.reader.stays
    model.reader.encoders[0].register_forward_hook(lambda *_: pytest.fail("the text encoder was asked again"))
    assert (prior_losses(model, objective, batch_of(1, 2, 3)) > 0).all()


@pytest.mark.parametrize("trained", [True, False])
def test_whole_models_keep_a_copy(settings_of, family, compute, trained: bool) -> None:
    """Every weight may change; what was is the target, for the text encoder too. A frozen UNet is its own copy."""
    settings = settings_of(**SELF)
    reader = TextReader(family, settings, compute, trained)
    unet = family.load_unet(torch.float32).requires_grad_(not trained)
    prior = whole_prior(settings, compute, reader, unet)
    model = Model(family, unet, reader, None, None, prior)
    objective = make_objective(settings, family, compute)
    assert prior_losses(model, objective, batch_of(1)).item() == pytest.approx(0, abs=1e-9)
    assert len(prior.held) == (0 if trained else 1)
    assert not any(parameter.requires_grad for copied in prior.held for parameter in copied.parameters())
    moved: list[nn.Module] = [reader.load()[0]] if trained else [unet]
    for module in moved:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter *= 1.1
    assert prior_losses(model, objective, batch_of(1)).item() > 1e-5
    assert whole_prior(settings_of(), compute, reader, unet) is None


def test_a_family_that_is_told_more_than_words(settings_of, compute, tmp_path: Path) -> None:
    """SDXL's pooled output and sizes, for the class prompt as for the captions."""
    settings = settings_of(**SELF, pretrained_model_name_or_path=write_toy(tmp_path / "xl", "sdxl"))
    family = open_family(settings.pretrained_model_name_or_path)
    model = build_model(settings, family, compute, 4, prior_texts(settings))
    objective = make_objective(settings, family, compute)
    batch = batch_of(1, 2, sizes=torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1))
    assert model.prior.condition.pooled.shape[0] == 1
    assert prior_losses(model, objective, batch).tolist() == pytest.approx([0, 0], abs=1e-10)
    learn(model, "text_encoder_2")
    assert (prior_losses(model, objective, batch) > 1e-6).all()


def test_a_copy_has_the_runs_number_format(settings_of, family, compute) -> None:
    half = replace(compute, dtype=torch.bfloat16)
    settings = settings_of(**SELF)
    unet = family.load_unet(torch.float32).requires_grad_(True)
    prior = whole_prior(settings, half, TextReader(family, settings, half, False), unet)
    assert {parameter.dtype for parameter in prior.held[0].parameters()} == {torch.bfloat16}
