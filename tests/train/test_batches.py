"""The same samples whatever the batch size, and latents from memory, disk or pictures alike."""

import threading

import pytest
import torch
from PIL import Image

from library.train import latents as latents_module
from library.train.batches import Batches, open_batches, slices_of_epoch
from library.train.data import encode_pictures, open_datasets
from library.train.latents import Latents
from library.train.plan import make_plan
from library.train.vae import open_vae
from tests.runs import draw_pictures


def samples_of(steps: list) -> list[list[tuple[str, int]]]:
    """The samples of each step, in order."""
    return [[(s.picture.key, s.repeat) for part in parts for s in part.samples] for parts in steps]


def test_a_step_is_the_same_however_it_is_cut(settings_of, dataset_of) -> None:
    dataset, larger = (dataset_of(7, wide=2, num_repeats=2, batch_size=size) for size in (2, 4))
    whole = make_plan(settings_of(), larger, 1)
    accumulated = make_plan(settings_of(gradient_accumulation_steps=2), dataset, 1)
    shared = make_plan(settings_of(), dataset, 2)
    one, two = slices_of_epoch(larger, whole, 0, 1), slices_of_epoch(dataset, accumulated, 0, 1)
    ranks = [slices_of_epoch(dataset, shared, rank, 1) for rank in (0, 1)]
    assert samples_of(one) == samples_of(two)
    assert samples_of(one) == samples_of([[*first, *second] for first, second in zip(*ranks, strict=True)])
    assert sorted(sum(samples_of(one), [])) == sorted((s.picture.key, s.repeat) for s in dataset.samples)


def test_a_slice_knows_its_step_in_the_run(settings_of, dataset_of) -> None:
    """Token warmup asks for it, on every process and in every epoch alike."""
    dataset = dataset_of(7, wide=2)
    plan = make_plan(settings_of(), dataset, 2)
    for epoch, rank in ((0, 0), (3, 0), (3, 1)):
        steps = slices_of_epoch(dataset, plan, rank, epoch)
        first = epoch * plan.steps_per_epoch
        for number, parts in enumerate(steps):
            assert {part.step for part in parts} <= {first + number}


def test_captions_warm_up_in_batches(settings_of, family, compute) -> None:
    settings = settings_of(token_warmup_step=4, max_train_steps=8, train_batch_size=4)
    dataset = open_datasets(settings).train
    plan, vae = make_plan(settings, dataset, 1), open_vae(settings, family, compute)
    caches = encode_pictures(settings, [dataset], vae, compute)
    batches = open_batches(settings, dataset, vae, caches, plan, compute)
    counts = [
        {caption.count(",") + 1 for (batch,) in batches.of_epoch(epoch) for caption in batch.captions}
        for epoch in range(5)
    ]
    assert counts == [{1}, {1}, {2}, {3}, {4}]


def test_a_short_last_batch_counts_its_samples(settings_of, dataset_of) -> None:
    dataset = dataset_of(5)
    plan = make_plan(settings_of(), dataset, 2)
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
    vae = open_vae(settings, family, compute)
    return settings, dataset, vae, encode_pictures(settings, [dataset], vae, compute)


def test_latents_are_the_same_from_everywhere(prepared, compute, monkeypatch) -> None:
    settings, dataset, vae, caches = prepared
    plan = make_plan(settings, dataset, 1)
    memory = Latents(dataset, caches, compute.device)
    monkeypatch.setattr(latents_module, "RESIDENT_BYTES", 100)
    disk, pictures = Latents(dataset, caches, compute.device), Latents(dataset, None, compute.device)
    assert memory.is_resident and not disk.is_resident
    kinds = [Batches(vae, each, plan, compute, 0) for each in (memory, disk, pictures)]
    for epoch in (0, 1):
        epochs = [list(kind.of_epoch(epoch)) for kind in kinds]
        for first, second, third in zip(*epochs, strict=True):
            assert torch.equal(first[0].mean, second[0].mean)
            assert torch.equal(first[0].logvar, second[0].logvar)
            torch.testing.assert_close(first[0].mean, third[0].mean, atol=1e-4, rtol=1e-4)
            assert first[0].captions == second[0].captions == third[0].captions
            assert first[0].draws == second[0].draws == third[0].draws


def test_an_epoch_begun_in_the_middle(prepared, compute) -> None:
    settings, dataset, vae, caches = prepared
    batches = Batches(vae, Latents(dataset, caches, compute.device), make_plan(settings, dataset, 1), compute, 0)
    whole, rest = list(batches.of_epoch(2)), list(batches.of_epoch(2, first=1))
    assert len(whole) == 2 and len(rest) == 1
    assert rest[0][0].draws == whole[1][0].draws
    assert torch.equal(rest[0][0].mean, whole[1][0].mean)


def test_workers_read_the_same(prepared, compute) -> None:
    settings, dataset, vae, _ = prepared
    plan, pictures = make_plan(settings, dataset, 1), Latents(dataset, None, compute.device)
    alone, helped = (list(Batches(vae, pictures, plan, compute, number).of_epoch(0)) for number in (0, 2))
    assert len(alone) == 2
    for one, other in zip(alone, helped, strict=True):
        assert torch.equal(one[0].mean, other[0].mean)


def test_weights_are_shares_of_the_step(prepared, compute) -> None:
    settings, dataset, vae, caches = prepared
    batches = Batches(vae, Latents(dataset, caches, compute.device), make_plan(settings, dataset, 1), compute, 0)
    for (batch,) in batches.of_epoch(0):
        assert batch.weights.tolist() == [0.5, 0.5]
        assert batch.mean.shape == batch.logvar.shape == (2, 4, 8, 8)


def test_latents_that_vanish_are_encoded_again(prepared, compute) -> None:
    settings, dataset, vae, caches = prepared
    plan = make_plan(settings, dataset, 1)
    latents = Latents(dataset, caches, compute.device)
    before = [batch for (batch,) in Batches(vae, latents, plan, compute, 0).of_epoch(0)]
    lost = caches.latents.path_of(dataset.pictures[0], dataset.view_of(dataset.samples[0], 0))
    lost.unlink()
    after = [batch for (batch,) in open_batches(settings, dataset, vae, caches, plan, compute).of_epoch(0)]
    assert lost.exists()
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one.mean, other.mean, atol=1e-4, rtol=1e-4)


def test_threads_read_ahead_and_stop_when_nobody_asks_any_more(prepared, compute, monkeypatch) -> None:
    settings, dataset, vae, caches = prepared
    monkeypatch.setattr(latents_module, "RESIDENT_BYTES", 100)
    batches = Batches(vae, Latents(dataset, caches, compute.device), make_plan(settings, dataset, 1), compute, 0)
    running = threading.active_count()
    epoch = batches.of_epoch(0)
    next(epoch)
    assert threading.active_count() > running
    epoch.close()
    assert threading.active_count() == running
    whole = [batch.draws for (batch,) in batches.of_epoch(0)]
    assert whole == [[dataset.draw_seed(s, 0) for s in part] for part in dataset.plan(0, 1)]


def test_masks_come_along(settings_of, family, compute, tmp_path) -> None:
    folder = draw_pictures(tmp_path / "in", 3)
    Image.new("L", (64, 64), 51).save(folder / "001-masklabel.png")
    settings = settings_of(train_data_dir=folder, masked_loss=True, train_batch_size=3)
    dataset, vae = open_datasets(settings).train, open_vae(settings, family, compute)
    caches = encode_pictures(settings, [dataset], vae, compute)
    plan = make_plan(settings, dataset, 1)
    ((batch,),) = open_batches(settings, dataset, vae, caches, plan, compute).of_epoch(0)
    assert batch.mask.shape == (3, 1, 8, 8)
    assert sorted(batch.mask.mean((1, 2, 3)).tolist()) == pytest.approx([0.2, 1, 1])


def test_without_masks_there_is_none(prepared, compute) -> None:
    settings, dataset, vae, caches = prepared
    for (batch,) in open_batches(settings, dataset, vae, caches, make_plan(settings, dataset, 1), compute).of_epoch(0):
        assert batch.mask is None
