"""Which files a run writes, under which names, and which of them stay."""

from pathlib import Path

import pytest
from PIL import Image

from library.settings import read_settings
from tests.runs import Bench, draw_pictures, events_of, listing

BUSY = {
    "train_batch_size": 1,
    "max_train_epochs": 3,
    "save_every_n_epochs": 1,
    "save_every_n_steps": 4,
    "save_state": True,
    "sample_every_n_epochs": 2,
    "sample_every_n_steps": 3,
    "sample_at_first": True,
    "validation_split": 0.2,
    "validate_every_n_epochs": 1,
    "lr_scheduler": "linear",
    "unet_lr": 0.01,
    "text_encoder_lr": 0.001,
    "optimizer_args": ["eps=1e-6"],
}
PROMPTS = """# two of them
a red thing --w 64 --h 64 --s 2 --d 5
sks thing --s 2 --l 1 --ss euler
"""


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, toy_model: Path, toy_cache: Path) -> Bench:
    """A run that does all there is to do: three epochs of three steps, for one of four pictures is held out."""
    folder = tmp_path_factory.mktemp("busy")
    (folder / "prompts.txt").write_text(PROMPTS)
    bench = Bench(toy_model, draw_pictures(folder / "pictures"), folder, toy_cache)
    before = listing(bench.pictures)
    bench.train(**BUSY, sample_prompts=folder / "prompts.txt")
    assert listing(bench.pictures) == before
    return bench


def test_names(busy: Bench) -> None:
    files = {"toy", "toy-000001", "toy-000002", "toy-step00000004", "toy-step00000008"}
    assert busy.names() == {
        *(f"{name}.safetensors" for name in files),
        *(f"{name}-state" for name in files),
        "toy.toml",
        "sample",
    }  # the last epoch's file is the finished one


def test_what_each_file_tells_of_itself(busy: Bench) -> None:
    told = {
        name: (busy.metadata(name)["ss_steps"], busy.metadata(name)["ss_epoch"], busy.metadata(name)["ss_num_epochs"])
        for name in ("toy-000001", "toy-step00000004", "toy-000002", "toy")
    }
    assert told["toy-000001"] == ("3", "1", "3")
    assert told["toy-step00000004"] == ("4", "1", "3")
    assert told["toy-000002"] == ("6", "2", "3")
    assert told["toy"] == ("9", "3", "3")


def test_previews(busy: Bench) -> None:
    seeds = {0: 5, 1: 7}  # the second takes the run's seed
    moments = ["000000", "000003", "e000002", "000006", "000009"]
    expected = {f"toy_{moment}_{number:02d}_{seed}.png" for moment in moments for number, seed in seeds.items()}
    assert {path.name for path in (busy.output / "sample").iterdir()} == expected
    with Image.open(busy.output / "sample" / "toy_000009_00_5.png") as image:
        assert image.size == (64, 64) and image.text["parameters"].startswith("a red thing")
        assert image.getextrema() != ((0, 0),) * 3
    # At one moment nothing has changed between them; later the LoRA shows.
    sample = busy.output / "sample"
    drawn = {moment: Image.open(sample / f"toy_{moment}_00_5.png").tobytes() for moment in moments}
    assert drawn["000006"] == drawn["e000002"] != drawn["000000"]


def test_settings_give_the_same_run(busy: Bench) -> None:
    written = read_settings(["--config", str(busy.output / "toy.toml")])
    assert written == read_settings(busy.argv(**BUSY, sample_prompts=busy.folder / "prompts.txt"))
    assert written.optimizer_args == ("eps=1e-6",) and written.seed == 7


def test_curves(busy: Bench) -> None:
    (folder,) = busy.logs.iterdir()
    assert folder.name.startswith("toy-")
    events = events_of(folder)
    tags = events.Tags()
    steps = {tag: [each.step for each in events.Scalars(tag)] for tag in tags["scalars"]}
    assert {"loss/current", "loss/average", "lr/unet", "lr/text_encoder", "norm/gradient"} <= steps.keys()
    assert steps["loss/current"] == list(range(1, 10))
    assert steps["loss/validation"] == [0, 3, 6, 9]
    assert steps["loss/epoch_average"] == [3, 6, 9]
    assert all(each.value > 0 for each in events.Scalars("norm/gradient"))
    rates = {part: [each.value for each in events.Scalars(f"lr/{part}")] for part in ("unet", "text_encoder")}
    assert rates["unet"][0] == pytest.approx(0.01) and rates["unet"][8] == pytest.approx(0.01 / 9)
    assert rates["text_encoder"][3] == pytest.approx(0.001 * 6 / 9)
    assert [each.step for each in events.Images("preview/01")] == [0, 3, 6, 6, 9]
    text = events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert 'output_name = "toy"' in text and "max_train_epochs = 3" in text


def test_old_files_are_cleared(bench: Bench) -> None:
    saving = {"save_every_n_epochs": 1, "save_every_n_steps": 1, "save_state": True, "max_train_epochs": 4}
    keeping = {"save_last_n_epochs": 1, "save_last_n_steps": 2, "save_last_n_steps_state": 1}
    bench.train(**saving, **keeping, network_train_text_encoder_only=True)
    files = {"toy", "toy-000003", "toy-step00000005", "toy-step00000006", "toy-step00000007"}
    states = files - {"toy-step00000005"}
    assert bench.names() == {f"{name}.safetensors" for name in files} | {f"{name}-state" for name in states} | {
        "toy.toml"
    }


def test_previews_of_the_first_captions(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.train(max_train_epochs=1, sample_every_n_epochs=1, network_train_text_encoder_only=True, log_prefix="mine-")
    names = {path.name for path in (bench.output / "sample").iterdir()}
    assert names == {f"toy_e000001_{number:02d}_7.png" for number in range(4)}
    assert "previews draw the first 4 captions" in capsys.readouterr().out
    assert [path.name[:9] for path in bench.logs.iterdir()] == ["mine-toy-"]


def test_a_broken_run_leaves_good_files(bench: Bench) -> None:
    """A loss that is no number must not end up in a file."""
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        bench.train(learning_rate=1e38, max_grad_norm=0, save_every_n_steps=4, max_train_steps=6, log_every_n_steps=9)
    assert bench.names() == {"toy.toml"}
