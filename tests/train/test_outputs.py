"""Names of the files, and which of them stay."""

import os
from pathlib import Path

import pytest
from PIL import Image

from library.models.prompts import Prompt
from library.settings import read_settings
from library.train.outputs import Outputs, state_folder
from library.train.preview import Preview
from tests.runs import WHOLE


@pytest.fixture
def outputs_of(settings_of):
    """The outputs of a run with some settings."""
    return lambda **changes: Outputs(settings_of(**changes))


def write(outputs: Outputs, kind: str, number: int, with_state: bool = True) -> None:
    """What an event does: notes a file, writes it and its state, clears old ones."""
    outputs.folder.mkdir(parents=True, exist_ok=True)
    path = outputs.epoch_file(number) if kind == "epoch" else outputs.step_file(number)
    outputs.note([path], *((0, number) if kind == "epoch" else (number, 0)))
    path.touch()
    if with_state:
        state_folder(path).mkdir()
    outputs.clear()


def left(outputs: Outputs) -> list[str]:
    """What is still there, without the name that all begin with."""
    return sorted(path.name.removeprefix("toy-").removesuffix(".safetensors") for path in outputs.folder.iterdir())


def test_names(outputs_of) -> None:
    outputs = outputs_of(output_name="my.lora")
    folder = outputs.folder
    assert outputs.final_file == folder / "my.lora.safetensors"
    assert outputs.epoch_file(3) == folder / "my.lora-000003.safetensors"
    assert outputs.step_file(120) == folder / "my.lora-step00000120.safetensors"
    assert outputs.sample_file("e000002", 1, 7) == folder / "sample" / "my.lora_e000002_01_7.png"
    assert outputs.settings_file == folder / "my.lora.toml"
    assert state_folder(outputs.final_file) == folder / "my.lora-state"
    assert state_folder(outputs.step_file(120)) == folder / "my.lora-step00000120-state"


def test_all_stay_unless_asked(outputs_of) -> None:
    outputs = outputs_of()
    for epoch in (1, 2, 3):
        write(outputs, "epoch", epoch)
    assert len(left(outputs)) == 6


def test_the_last_epochs_stay(outputs_of) -> None:
    outputs = outputs_of(save_last_n_epochs=2, save_last_n_epochs_state=1)
    for epoch in (2, 4, 6, 8):
        write(outputs, "epoch", epoch)
    assert left(outputs) == ["000006", "000008", "000008-state"]


def test_the_last_steps_stay(outputs_of) -> None:
    """A span of steps, as in sd-scripts, and not a number of files; states may stay longer."""
    outputs = outputs_of(save_last_n_steps=10, save_last_n_steps_state=15)
    for step in (5, 10, 15, 20, 25):
        write(outputs, "step", step)
    files = [f"step{step:08d}" for step in (15, 20, 25)]
    states = [f"step{step:08d}-state" for step in (10, 15, 20, 25)]
    assert left(outputs) == sorted(files + states)


def test_only_own_files_are_removed(outputs_of) -> None:
    before = outputs_of()
    write(before, "epoch", 1)
    outputs = outputs_of(save_last_n_epochs=1)
    write(outputs, "epoch", 2)
    write(outputs, "epoch", 3)
    assert left(outputs) == ["000001", "000001-state", "000003", "000003-state"]


def test_a_resumed_run_clears_what_the_first_wrote(outputs_of) -> None:
    first = outputs_of(save_last_n_epochs=1)
    write(first, "epoch", 1)
    again = outputs_of(save_last_n_epochs=1)
    again.restore(first.remember())
    write(again, "epoch", 2)
    assert left(again) == ["000002", "000002-state"]


def test_a_run_of_another_name_leaves_the_first_ones_files(outputs_of) -> None:
    first = outputs_of(save_last_n_epochs=1)
    write(first, "epoch", 1)
    other = outputs_of(save_last_n_epochs=1, output_name="other")
    other.restore(first.remember())
    write(other, "epoch", 2)
    assert {"000001", "000001-state", "other-000002", "other-000002-state"} == set(left(other))


def test_what_killed_runs_left_is_swept(outputs_of) -> None:
    outputs = outputs_of()
    dead, alive = 2**22 + 5, os.getpid()  # above the largest process number there is
    sample = outputs.folder / "sample"
    for folder, name in ((outputs.folder, ".toy.safetensors.{}-1.part"), (sample, ".toy_e1.png.{}-1.part")):
        folder.mkdir(parents=True, exist_ok=True)
        for process in (dead, alive):
            (folder / name.format(process)).touch()
    (outputs.folder / f".toys.safetensors.{dead}-1.part").touch()
    (outputs.folder / ".toy-000001.part" / "unet").mkdir(parents=True)
    (outputs.folder / ".toy-000001-state.partial").mkdir()
    outputs.begin()
    kept = {f".toy.safetensors.{alive}-1.part", f".toys.safetensors.{dead}-1.part", "sample", "toy.toml"}
    assert {path.name for path in outputs.folder.iterdir()} == kept
    assert [path.name for path in sample.iterdir()] == [f".toy_e1.png.{alive}-1.part"]


def test_settings_are_a_config(outputs_of, settings_of) -> None:
    changes = {"optimizer_args": ["weight_decay=0.1"], "noise_offset": 0.05, "save_every_n_epochs": 2, "clip_skip": 2}
    outputs = outputs_of(**changes)
    outputs.begin()
    assert read_settings(["--config", str(outputs.settings_file)]) == settings_of(**changes)


def test_a_preview_tells_its_prompt(outputs_of) -> None:
    path = outputs_of().sample_file("000001", 0, 7)
    prompt = Prompt("a red dog", width=64, height=64, seed=7)
    outputs_of().save_picture(path, Preview(0, prompt, Image.new("RGB", (64, 64), "red")))
    with Image.open(path) as image:
        assert image.text["parameters"].startswith("a red dog") and "Seed: 7" in image.text["parameters"]
    assert [each.name for each in Path(path).parent.iterdir()] == [path.name]


@pytest.fixture
def whole_outputs(bench):
    """The outputs of a run that trains a whole model."""
    return lambda **changes: Outputs(read_settings(bench.argv(**{**WHOLE, **changes}), program="train_dreambooth"))


def test_places_of_a_whole_model(whole_outputs) -> None:
    outputs = whole_outputs(save_model_as="both", ema=True, output_name="my.model")
    folder, file = outputs.folder, outputs.epoch_file(2)
    assert outputs.places(file) == [folder / "my.model-000002.safetensors", folder / "my.model-000002"]
    assert outputs.average_places(file) == [folder / "my.model-000002-ema.safetensors", folder / "my.model-000002-ema"]
    assert whole_outputs(save_model_as="both").average_places(file) == []
    assert whole_outputs(save_model_as="diffusers").places(outputs.final_file) == [folder / "my.model"]


def test_old_folders_and_averages_are_removed_too(whole_outputs) -> None:
    outputs = whole_outputs(save_model_as="both", ema=True, save_last_n_epochs=1)
    for epoch in (1, 2):
        path = outputs.epoch_file(epoch)
        outputs.note([path], 0, epoch)
        for place in (*outputs.places(path), *outputs.average_places(path)):
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.suffix:
                place.touch()
            else:
                (place / "unet").mkdir(parents=True)
                (place / "unet" / "config.json").touch()
        outputs.clear()
    assert {path.name for path in outputs.folder.iterdir()} == {
        f"toy-000002{kind}{ending}" for kind in ("", "-ema") for ending in ("", ".safetensors")
    }
    assert [number for number, _ in outputs._epoch_files] == [2]
