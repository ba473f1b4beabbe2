"""Steps, epochs and when files are written, counted beforehand."""

import pytest

from library.data.dataset import Dataset
from library.errors import InputError
from library.train.plan import make_plan


def test_steps_of_a_run(settings_of, dataset_of) -> None:
    plan = make_plan(settings_of(max_train_steps=7, gradient_accumulation_steps=3), dataset_of(8, wide=1), world_size=1)
    assert plan.effective_batch == 6
    # Each bucket fills its own batches: 8 squares make two, one wide picture makes one.
    assert (plan.steps_per_epoch, plan.steps, plan.epochs) == (3, 7, 3)
    assert plan.summary() == "9 samples an epoch in batches of 2 x 3 accumulated: 7 steps in 3 epochs of 3."


def test_processes_share_the_work(settings_of, dataset_of) -> None:
    one = make_plan(settings_of(), dataset_of(8, batch_size=4), world_size=1)
    two = make_plan(settings_of(), dataset_of(8), world_size=2)
    assert one.effective_batch == two.effective_batch == 4
    assert one.steps_per_epoch == two.steps_per_epoch == 2
    assert "2 x 2 processes" in two.summary()


def test_folders_with_batches_of_their_own(settings_of, dataset_of) -> None:
    pictures = [*dataset_of(5, batch_size=4).pictures, *dataset_of(wide=3, count=0).pictures]
    plan = make_plan(settings_of(max_train_steps=7, gradient_accumulation_steps=2), Dataset(pictures, 0), 1)
    assert (plan.steps_per_epoch, plan.effective_batch) == (2, 8)
    assert plan.summary().startswith("8 samples an epoch in batches of 2 or 4 x 2 accumulated: 7 steps")


def test_epochs_beat_steps_and_pictures_cap_them(settings_of, dataset_of) -> None:
    assert make_plan(settings_of(max_train_epochs=5), dataset_of(4), 1).steps == 10
    assert make_plan(settings_of(max_train_epochs=5, max_steps_per_photo=2), dataset_of(4), 1).steps == 8
    assert make_plan(settings_of(max_train_steps=3, max_steps_per_photo=2), dataset_of(4), 1).steps == 3


def test_repeats_are_not_pictures(settings_of, dataset_of) -> None:
    plan = make_plan(settings_of(max_steps_per_photo=2, max_train_steps=100), dataset_of(4, num_repeats=3), 1)
    assert (plan.pictures, plan.samples_per_epoch, plan.steps) == (4, 12, 8)


@pytest.mark.parametrize(("step", "place"), [(0, (0, 0)), (1, (0, 1)), (3, (1, 0)), (7, (2, 1))])
def test_place_of_a_step(settings_of, dataset_of, step: int, place: tuple[int, int]) -> None:
    assert make_plan(settings_of(max_train_steps=9), dataset_of(5), 1).position(step) == place


def test_ratio_of_epochs_to_save(settings_of, dataset_of) -> None:
    changes = {"max_train_epochs": 10, "save_every_n_epochs": 1}
    assert make_plan(settings_of(**changes), dataset_of(2), 1).save_every_epochs == 1
    assert make_plan(settings_of(**changes, save_n_epoch_ratio=3), dataset_of(2), 1).save_every_epochs == 3
    assert make_plan(settings_of(**changes, save_n_epoch_ratio=99), dataset_of(2), 1).save_every_epochs == 1


def test_nothing_to_train(settings_of, dataset_of) -> None:
    with pytest.raises(InputError, match="nothing to train: 0 pictures make 0 steps"):
        make_plan(settings_of(max_steps_per_photo=2), dataset_of(0), 1)
