"""The same samples whatever the batch size, and latents from memory, disk or pictures alike."""

import pytest
import torch

from library.train import batches as batches_module
from library.train.batches import Batches, Latents, slices_of_epoch
from library.train.data import encode_pictures, open_datasets
from library.train.plan import make_plan


def samples_of(steps: list) -> list[list[tuple[str, int]]]:
    """The samples of each step, in order."""
    return [[(s.picture.key, s.repeat) for part in parts for s in part.samples] for parts in steps]


def test_a_step_is_the_same_however_it_is_cut(settings_of, dataset_of) -> None:
    dataset = dataset_of(7, wide=2, num_repeats=2)
    whole = make_plan(settings_of(train_batch_size=4), dataset, 1)
    accumulated = make_plan(settings_of(train_batch_size=2, gradient_accumulation_steps=2), dataset, 1)
    shared = make_plan(settings_of(train_batch_size=2), dataset, 2)
    one, two = slices_of_epoch(dataset, whole, 0, 1), slices_of_epoch(dataset, accumulated, 0, 1)
    ranks = [slices_of_epoch(dataset, shared, rank, 1) for rank in (0, 1)]
    assert samples_of(one) == samples_of(two)
    assert samples_of(one) == samples_of([[*first, *second] for first, second in zip(*ranks, strict=True)])
    assert sorted(sum(samples_of(one), [])) == sorted((s.picture.key, s.repeat) for s in dataset.samples)


def test_a_short_last_batch_counts_its_samples(settings_of, dataset_of) -> None:
    dataset = dataset_of(5)
    plan = make_plan(settings_of(train_batch_size=2), dataset, 2)
    ranks = [slices_of_epoch(dataset, plan, rank, 0) for rank in (0, 1)]
    short = next(step for step in range(2) if sum(len(part.samples) for r in ranks for part in r[step]) == 1)
    assert ranks[1][short] == []  # nothing is left for the second process
    assert [part.count for part in ranks[0][short]] == [1]
    assert {part.count for rank in ranks for part in rank[1 - short]} == {4}


@pytest.fixture
def prepared(settings_of, family, compute):
    """Datasets, VAE and cache of the toy's pictures."""
    settings = settings_of(flip_aug=True)
    dataset = open_datasets(settings).train
    vae = family.load_vae(torch.float32)
    cache = encode_pictures(settings, [dataset], family, vae, compute)
    return settings, dataset, vae, cache


def test_latents_are_the_same_from_everywhere(prepared, family, compute, monkeypatch) -> None:
    settings, dataset, vae, cache = prepared
    plan = make_plan(settings, dataset, 1)
    memory = Latents(dataset, cache, compute.device)
    monkeypatch.setattr(batches_module, "RESIDENT_BYTES", 100)
    disk, pictures = Latents(dataset, cache, compute.device), Latents(dataset, None, compute.device)
    assert memory.memory is not None and disk.memory is None
    kinds = [Batches(family, vae, each, plan, compute, 0) for each in (memory, disk, pictures)]
    for epoch in (0, 1):
        epochs = [list(kind.of_epoch(epoch)) for kind in kinds]
        for first, second, third in zip(*epochs, strict=True):
            assert torch.equal(first[0].mean, second[0].mean)
            assert torch.equal(first[0].logvar, second[0].logvar)
            torch.testing.assert_close(first[0].mean, third[0].mean, atol=1e-4, rtol=1e-4)
            assert first[0].captions == second[0].captions == third[0].captions
            assert first[0].draws == second[0].draws == third[0].draws


def test_an_epoch_begun_in_the_middle(prepared, family, compute) -> None:
    settings, dataset, vae, cache = prepared
    batches = Batches(family, vae, Latents(dataset, cache, compute.device), make_plan(settings, dataset, 1), compute, 0)
    whole, rest = list(batches.of_epoch(2)), list(batches.of_epoch(2, first=1))
    assert len(whole) == 2 and len(rest) == 1
    assert rest[0][0].draws == whole[1][0].draws
    assert torch.equal(rest[0][0].mean, whole[1][0].mean)


def test_workers_read_the_same(prepared, family, compute) -> None:
    settings, dataset, vae, _ = prepared
    plan, pictures = make_plan(settings, dataset, 1), Latents(dataset, None, compute.device)
    alone, helped = (list(Batches(family, vae, pictures, plan, compute, number).of_epoch(0)) for number in (0, 2))
    assert len(alone) == 2
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one[0].mean, other[0].mean)


def test_weights_are_shares_of_the_step(prepared, family, compute) -> None:
    settings, dataset, vae, cache = prepared
    batches = Batches(family, vae, Latents(dataset, cache, compute.device), make_plan(settings, dataset, 1), compute, 0)
    for (batch,) in batches.of_epoch(0):
        assert batch.weights.tolist() == [0.5, 0.5]
        assert batch.mean.shape == batch.logvar.shape == (2, 4, 8, 8)


def test_latents_that_vanish_are_an_error(prepared, compute, monkeypatch, tmp_path) -> None:
    _, dataset, _, cache = prepared
    monkeypatch.setattr(cache, "folder", tmp_path)
    with pytest.raises(RuntimeError, match="vanished"):
        Latents(dataset, cache, compute.device)
