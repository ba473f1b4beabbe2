"""A run that was stopped goes on exactly as if it had not been."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import train_network
from library.errors import InputError
from tests.runs import Bench, assert_same, draw_pictures, run_to_the_end

# Five pictures in batches of two: the first epoch ends with step 3, in the middle of what is resumed from.
RUN = {
    "max_train_steps": 5,
    "lr_scheduler": "cosine",
    "network_dropout": 0.2,
    "flip_aug": True,
    "shuffle_caption": True,
    "token_warmup_step": 0.8,
    "enable_wildcard": True,
    "caption_suffix": ", {one|two|three}",
}
SAVING = {"save_state": True, "save_every_n_steps": 2, "save_every_n_epochs": 1, "save_last_n_steps": 2}


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures."""
    return draw_pictures(tmp_path_factory.mktemp("five"), 5)


@pytest.fixture(scope="module")
def unbroken(
    tmp_path_factory: pytest.TempPathFactory, toy_model: Path, five: Path, toy_cache: Path
) -> tuple[Bench, dict[str, Tensor], dict[str, list[tuple[int, float]]]]:
    """A run that left its states, what it learned, and its curves."""
    bench = Bench(toy_model, five, tmp_path_factory.mktemp("unbroken"), toy_cache)
    tensors = bench.train(**RUN, **SAVING)
    return bench, tensors, bench.scalars()


def resumed_in(bench: Bench, tmp_path: Path) -> Bench:
    """A copy of a run's folders without what came at its end."""
    again = Bench(bench.model, bench.pictures, tmp_path, bench.cache)
    shutil.copytree(bench.output, again.output)
    (again.output / "toy.safetensors").unlink()
    shutil.rmtree(again.output / "toy-state")
    return again


@pytest.mark.parametrize("state", ["step00000002", "000001", "step00000004"])
def test_from_every_state_to_the_same_end(unbroken, tmp_path: Path, state: str) -> None:
    bench, tensors, curves = unbroken
    again = resumed_in(bench, tmp_path)
    resume = {"resume": again.output / f"toy-{state}-state", "logging_dir": bench.logs}
    assert_same(again.train(**RUN, **SAVING, **resume), tensors)
    assert again.names() == bench.names()
    assert again.metadata()["ss_training_started_at"] == bench.metadata()["ss_training_started_at"]
    # It goes on in the folder of the first run's curves, which look as if nothing had happened.
    assert not again.logs.exists() and len(list(bench.logs.iterdir())) == 1
    for tag in ("loss/current", "loss/average", "lr/unet", "norm/gradient", "loss/epoch_average"):
        assert bench.scalars()[tag] == curves[tag], tag


def test_curves_are_written_where_the_settings_say(unbroken, tmp_path: Path) -> None:
    bench, _, curves = unbroken
    again = resumed_in(bench, tmp_path)
    again.train(**RUN, **SAVING, resume="auto")
    assert len(list(bench.logs.iterdir())) == 1 == len(list(again.logs.iterdir()))
    assert again.scalars()["loss/current"] == curves["loss/current"][-1:], "the fifth step"


def test_auto_takes_the_newest(unbroken, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench, tensors, _ = unbroken
    again = resumed_in(bench, tmp_path)
    assert_same(again.train(**RUN, **SAVING, resume="auto"), tensors)
    assert "toy-step00000004-state, step 4 of 5" in capsys.readouterr().out


def test_auto_begins_where_there_is_nothing(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.train(max_train_steps=1, network_train_text_encoder_only=True, resume="auto")
    assert "there is no state of toy" in capsys.readouterr().out


def test_a_finished_run_can_be_made_longer(bench: Bench) -> None:
    short = {"max_train_steps": 2, "save_state_on_train_end": True, "network_train_text_encoder_only": True}
    bench.train(**short)
    assert bench.names() == {"toy.safetensors", "toy-state", "toy.toml"}
    longer = bench.train(**{**short, "max_train_steps": 4}, resume="auto")
    assert_same(longer, bench.at("whole").train(**{**short, "max_train_steps": 4}))
    with pytest.raises(InputError, match="at step 4 already, and this run ends at step 4"):
        train_network.main(bench.argv(**{**short, "max_train_steps": 4}, resume="auto"))


def test_what_is_saved_is_the_average_of_the_optimizers_own(bench: Bench) -> None:
    """The file holds x of arXiv 2405.15682, and the state y, where gradients were taken: y = 0.9 x + 0.1 z."""
    small = {"optimizer_type": "AdamWScheduleFree", "network_train_text_encoder_only": True, "learning_rate": 0.01}
    saved = bench.train(**small, max_train_steps=4, save_state=True)
    state = bench.output / "toy-state"
    learned_at = load_file(state / "weights.safetensors")
    moments = torch.load(state / "optimizer.pt", weights_only=True)["optimizer"]["state"]
    names = [name for name in learned_at if not name.endswith("alpha")]
    assert len(names) == len(moments)
    assert max((saved[name] - learned_at[name]).abs().max().item() for name in names) > 1e-4
    for name in names:
        alike = [each["z"] for each in moments.values() if each["z"].shape == saved[name].shape]
        found = [0.9 * saved[name] + 0.1 * z for z in alike]
        assert sum(torch.allclose(each, learned_at[name], rtol=1e-5, atol=1e-6) for each in found) == 1, name


def test_looking_on_the_way_changes_nothing(bench: Bench) -> None:
    small = {"optimizer_type": "RAdamScheduleFree", "network_train_text_encoder_only": True, "max_train_steps": 4}
    small |= {"validation_split": 0.25}
    looked = bench.train(**small, save_every_n_steps=1, validate_every_n_steps=1, save_state=True)
    assert_same(looked, bench.at("blind").train(**small))


# One of each kind of state; tests/optim has all of them.
STATES = "AdamW8bit PagedAdamW8bit Lion8bit Adafactor CAME Prodigy DAdaptAdam AdamWScheduleFree SGDNesterov8bit"


@pytest.mark.parametrize("optimizer", [*STATES.split(), "torch.optim.RAdam"])
def test_every_optimizer_goes_on(bench: Bench, optimizer: str) -> None:
    """With a rank at which 8-bit optimizers really keep 8 bits; below 4096 numbers they do not."""
    small = {"optimizer_type": optimizer, "network_train_text_encoder_only": True, "network_dim": 128}
    small |= {"learning_rate": 1.0 if optimizer in ("Prodigy", "DAdaptAdam") else 0.001, "lr_scheduler": "linear"}
    tensors = bench.train(**small, save_state=True, save_every_n_steps=2)
    state = bench.output / "toy-step00000002-state"
    assert_same(bench.at("again").train(**small, resume=state), tensors)


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 8), ("network_dim", 4), ("learning_rate", 0.5), ("flip_aug", False), ("train_batch_size", 1)],
)
def test_other_settings_are_refused(unbroken, tmp_path: Path, capsys, name: str, value: object) -> None:
    bench, _, _ = unbroken
    again = Bench(bench.model, bench.pictures, tmp_path, bench.cache)
    state = bench.output / "toy-000001-state"
    assert run_to_the_end(again.argv(**{**RUN, name: value}, resume=state)) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("error: resume: ") and complaint.count("error:") == 1
    told = {"train_batch_size": "effective_batch_size"}.get(name, name)
    assert f"{told} was " in complaint and f" and is {value}" in complaint
    assert not again.output.exists() and not again.logs.exists()


def test_other_pictures_are_refused(unbroken, tmp_path: Path) -> None:
    bench, _, _ = unbroken
    again = Bench(bench.model, draw_pictures(tmp_path / "more", 6), tmp_path, bench.cache)
    with pytest.raises(InputError, match="pictures_and_captions was"):
        train_network.main(again.argv(**RUN, resume=bench.output / "toy-000001-state"))


def test_other_dataset_tables_are_refused(bench: Bench, tmp_path: Path) -> None:
    def tables(flip: str) -> Path:
        text = f"[[datasets]]\n[[datasets.subsets]]\nimage_dir = '{bench.pictures}'\nflip_aug = {flip}\n"
        (tmp_path / "data.toml").write_text(text)
        return tmp_path / "data.toml"

    small = {"train_data_dir": None, "network_train_text_encoder_only": True, "max_train_steps": 1}
    bench.train(**small, dataset_config=tables("true"), save_state_on_train_end=True)
    argv = bench.argv(**{**small, "max_train_steps": 2}, dataset_config=tables("false"), resume="auto")
    with pytest.raises(InputError, match=r"settings: datasets 1 flip_aug was True and is False\.$"):
        train_network.main(argv)


def test_a_damaged_state_is_refused(unbroken, tmp_path: Path, capsys) -> None:
    bench, _, _ = unbroken
    again = resumed_in(bench, tmp_path)
    file = again.output / "toy-000001-state" / "optimizer.pt"
    file.write_bytes(file.read_bytes()[:-100])
    assert run_to_the_end(again.argv(**RUN, resume=file.parent)) == 2
    assert "optimizer.pt is missing or damaged" in capsys.readouterr().err


def test_what_may_change_on_the_way(unbroken, tmp_path: Path) -> None:
    """How samples are cut and computed, and what is only looked at."""
    bench, _, _ = unbroken
    again = Bench(bench.model, bench.pictures, tmp_path, bench.cache)
    free = {"train_batch_size": 1, "gradient_accumulation_steps": 2, "gradient_checkpointing": True}
    free |= {"mixed_precision": "fp16", "save_precision": "fp16", "log_every_n_steps": 3, "sample_sampler": "euler"}
    again.train(**{**RUN, **free}, resume=bench.output / "toy-step00000002-state")
