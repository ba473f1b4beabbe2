"""The validation's loss: the same pictures, noise and timesteps each time, without dropout."""

import pytest
import torch
from torch import nn

from library.diffusion.loss import Weighting
from library.diffusion.schedule import scaled_linear
from library.train.batches import open_batches
from library.train.data import encode_pictures, open_datasets
from library.train.model import build_model
from library.train.plan import make_plan
from library.train.step import Objective
from library.train.vae import open_vae
from library.train.validation import FRACTIONS, evaluating, make_validation, validation_slices


@pytest.fixture
def made(settings_of, family, compute):
    """A validation of the toy and its model."""
    settings = settings_of(validate_every_n_steps=1, network_train_unet_only=True, network_dropout=0.5, flip_aug=True)
    datasets = open_datasets(settings)
    vae = open_vae(settings, family, compute)
    caches = encode_pictures(settings, datasets.all, vae, compute)
    plan = make_plan(settings, datasets.train, 1)
    captions = [picture.caption for picture in datasets.train.pictures]
    model = build_model(settings, family, compute, plan.steps, captions)
    batches = open_batches(settings, datasets.validation, vae, caches, plan, compute)
    objective = Objective(scaled_linear(*family.betas), "epsilon", weighting=Weighting(min_snr_gamma=5))
    return make_validation(settings, batches, objective), model, settings


def test_it_is_the_same_each_time(made, compute) -> None:
    validation, model, _ = made
    first = validation.loss(model, compute)
    torch.rand(3)
    assert validation.loss(model, compute) == first > 0
    assert model.unet.training and validation.objective.weighting.is_even
    with torch.no_grad():
        for layer in model.learner.learned.parameters("unet"):
            layer.add_(0.1)
    assert validation.loss(model, compute) != first


def test_it_is_a_mean_over_pictures_and_timesteps(made, compute) -> None:
    validation, model, _ = made
    whole = validation.loss(model, compute)
    parts = []
    for part in validation.parts:
        alone = type(validation)(validation.batches, [part], validation.objective)
        parts.append((alone.loss(model, compute), len(part.samples)))
    assert whole == pytest.approx(
        sum(loss * count for loss, count in parts) / sum(count for _, count in parts), rel=1e-5
    )
    assert sum(count for _, count in parts) == 4 and len(set(FRACTIONS)) == 4


def test_slices(dataset_of) -> None:
    dataset = dataset_of(5, wide=1)
    slices = validation_slices(dataset, None)
    assert sorted(len(each.samples) for each in slices) == [1, 1, 2, 2]
    assert all(len({sample.picture.size for sample in each.samples}) == 1 for each in slices)
    assert {each.count for each in slices} == {1}
    assert validation_slices(dataset, 3) == slices[:3]


def test_no_pictures_no_validation(settings_of) -> None:
    assert make_validation(settings_of(), None, None) is None


def test_modules_are_left_as_they_were() -> None:
    learning, still = nn.Dropout(), nn.Dropout().eval()
    with pytest.raises(KeyError), evaluating(learning, still):
        assert not learning.training
        raise KeyError
    assert learning.training and not still.training
