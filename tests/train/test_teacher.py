"""The base model's answers as targets for class pictures: for them alone, and unmoved by what is learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from library.models.family import open_family
from library.settings import Settings, read_settings
from library.train.model import Model, build_model
from library.train.objective import make_objective
from library.train.step import Batch, Objective
from tests.runs import WHOLE, Bench, assert_same, draw_pictures, largest_difference, run_to_the_end
from tests.toy_families import write_toy

CAPTIONS = ["a photo of sks dog", "a photo of dog", "a brown dog"]


@pytest.fixture
def distilled(bench: Bench):
    """Settings of a run on the toy model that distills, with changes."""

    def _settings(program: str = "train_network", **changes) -> Settings:
        words = {"prior_preservation": "distill", "reg_data_dir": bench.pictures, **changes}
        return read_settings(bench.argv(**words), program=program)

    return _settings


@pytest.fixture
def model_of(distilled, family, compute):
    """A model that adapters learn on, or that of another program, and its objective."""

    def _model(**changes) -> tuple[Model, Objective]:
        settings = distilled(**changes)
        return build_model(settings, family, compute, 4, CAPTIONS), make_objective(settings, family, compute)

    return _model


def batch_of(*of_class: bool, **changes) -> Batch:
    """A picture of the subject, one of the class with its words, and one more."""
    draws = range(len(of_class))
    means = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(draw)) for draw in draws])
    weights = torch.full((len(of_class),), 1 / len(of_class))
    captions = CAPTIONS[: len(of_class)]
    return Batch(means, torch.full_like(means, -20), captions, weights, draws, of_class=of_class, **changes)


def learn(model: Model) -> None:
    """Moves all that learns somewhere."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.learner.parameters:
            parameter += 0.3 * parameter.abs().mean().clamp(min=0.1) * torch.randn_like(parameter)


def answers(model: Model, batch: Batch, noisy, timesteps) -> torch.Tensor:
    """What the model says now."""
    with torch.no_grad():
        return model.family.predict(model.unet, noisy, timesteps, model.reader.read(batch.captions))


@pytest.mark.parametrize("how", ["unet adapter", "both adapters", "whole unet", "whole of both"])
def test_targets_of_the_class_are_the_base_models(model_of, how: str) -> None:
    """The noise for the subject; for the class what was predicted before anything moved, then as before."""
    whole = {"program": "train_dreambooth", **WHOLE, "train_text_encoder": how.endswith("both")}
    model, objective = model_of(**(whole if "whole" in how else {"network_train_unet_only": how.startswith("unet")}))
    batch = batch_of(False, True, True)
    question = objective.question(model.family, batch)
    before = answers(model, batch, question.noisy, question.timesteps)
    for _ in range(2):
        target = model.teacher.instead(model.family, batch, question).target
        assert torch.equal(target[0], question.target[0]) and not target.requires_grad
        torch.testing.assert_close(target[1:], before[1:], rtol=1e-4, atol=1e-5)
        learn(model)
        moved = answers(model, batch, question.noisy, question.timesteps)
        assert (moved - before).abs().max() > 1e-3
    assert len(model.teacher.held) == (1 if "whole" in how else 0)
    assert all(not each.requires_grad for module in model.teacher.held for each in module.parameters())


def test_a_batch_without_the_class_is_left_alone(model_of) -> None:
    model, objective = model_of()
    for batch in (batch_of(False, False), replace(batch_of(False), of_class=())):
        question = objective.question(model.family, batch)
        assert model.teacher.instead(model.family, batch, question) is question


def test_only_where_it_is_asked_for(distilled, family, compute) -> None:
    settings = distilled(prior_preservation="pictures")
    assert build_model(settings, family, compute, 4, CAPTIONS).teacher is None


def test_a_family_that_is_told_more_than_words(distilled, compute, tmp_path: Path) -> None:
    """SDXL's pooled output and sizes, of the class pictures alone."""
    settings = distilled(pretrained_model_name_or_path=write_toy(tmp_path / "xl", "sdxl"))
    family = open_family(settings.pretrained_model_name_or_path)
    model, objective = build_model(settings, family, compute, 4, CAPTIONS), make_objective(settings, family, compute)
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64], [128.0, 64, 0, 0, 64, 64]])
    batch = batch_of(False, True, sizes=sizes)
    question = objective.question(model.family, batch)
    told = model.reader.read(batch.captions)._replace(sizes=sizes)
    with torch.no_grad():
        expected = model.family.predict(model.unet, question.noisy, question.timesteps, told)
    target = model.teacher.instead(model.family, batch, question).target
    torch.testing.assert_close(target[1], expected[1], rtol=1e-4, atol=1e-5)


def test_whole_runs(bench: Bench, tmp_path: Path) -> None:
    """Something else is learned than of the pictures themselves, the same each time; a dry run goes through too."""
    words = {"reg_data_dir": draw_pictures(tmp_path / "class", words="a thing"), "prior_loss_weight": 10}
    plain = bench.at("pictures").train(**words, prior_preservation="pictures")
    taught = bench.at("distill").train(**words, prior_preservation="distill")
    assert largest_difference(plain, taught) > 1e-3
    assert_same(taught, bench.at("again").train(**words, prior_preservation="distill"))
    assert run_to_the_end(bench.argv(**words, prior_preservation="distill", dry_run=True)) == 0
