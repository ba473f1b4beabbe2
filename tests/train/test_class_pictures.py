"""Class pictures: how many are drawn, where, by whom, and what is left of a run that was stopped in between."""

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from library.data.folders import pictures_in
from library.errors import InputError
from library.log import warn
from library.models.drawing import Painter
from library.settings import Settings
from library.train import class_pictures as module
from library.train.class_pictures import prepare_class_pictures
from library.train.data import open_datasets
from library.train.state import State, save_state
from tests.runs import draw_pictures

QUICK = {"class_prompt": "a photo of dog", "num_class_images": 3, "class_image_steps": 2}


@pytest.fixture
def prepare(settings_of, family, compute, tmp_path: Path):
    """Prepares the class pictures of a run, into `reg` unless told otherwise; returns its new settings."""

    def _prepare(of=family, by=compute, **changes) -> Settings:
        warn.cache_clear()
        settings = settings_of(**{**QUICK, "reg_data_dir": tmp_path / "reg", **changes})
        return prepare_class_pictures(settings, of, by)

    return _prepare


@pytest.fixture
def count_drawn(monkeypatch) -> list[int]:
    """The seeds of all pictures drawn from now on."""
    seeds: list[int] = []
    draw = Painter.draw

    def counted(self: Painter, prompt, **rest):
        seeds.append(prompt.seed)
        return draw(self, prompt, **rest)

    monkeypatch.setattr(Painter, "draw", counted)
    return seeds


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pictures_in(folder)}


def test_without_a_number_nothing_happens(settings_of, family, compute, tmp_path: Path) -> None:
    settings = settings_of()
    assert prepare_class_pictures(settings, family, compute) is settings


def test_a_folder_is_made_and_filled(prepare, tmp_path: Path, capsys) -> None:
    settings = prepare()
    files = pictures_in(tmp_path / "reg")
    assert settings.reg_data_dir == tmp_path / "reg"
    assert [path.name for path in files] == ["class_00000.png", "class_00001.png", "class_00002.png"]
    assert f"3 drawn of 'a photo of dog', 3 in {tmp_path / 'reg'}." in capsys.readouterr().out
    assert len(set(contents(tmp_path / "reg").values())) == 3
    with Image.open(files[1]) as image:
        assert image.size == (64, 64)
        told = image.text["parameters"]
    assert told.startswith("a photo of dog\nSteps: 2, Sampler: DDIM, CFG scale: 7.5, Seed: 1, Size: 64x64, Model: ")
    train = open_datasets(settings).train
    assert {picture.caption for picture in train.pictures if picture.subset.is_reg} == {"a photo of dog"}
    assert train.sample_count_of(is_reg=True) == train.sample_count_of(is_reg=False) == 4


def test_what_is_there_counts(prepare, count_drawn, tmp_path: Path, capsys) -> None:
    draw_pictures(tmp_path / "reg", 2)
    prepare(num_class_images=2)
    assert count_drawn == [] and "drawn" not in capsys.readouterr().out
    prepare(num_class_images=4)
    assert count_drawn == [0, 1] and len(pictures_in(tmp_path / "reg")) == 4
    prepare(num_class_images=5)
    assert count_drawn == [0, 1, 2]
    prepare(num_class_images=1)
    assert len(pictures_in(tmp_path / "reg")) == 5


@pytest.mark.parametrize("lost", [[0], [2], [0, 1], [1]])
def test_a_lost_picture_comes_back_as_it_was(prepare, count_drawn, tmp_path: Path, lost: list[int]) -> None:
    prepare()
    before = contents(tmp_path / "reg")
    for number in lost:
        (tmp_path / "reg" / f"class_{number:05d}.png").unlink()
    count_drawn.clear()
    prepare()
    assert contents(tmp_path / "reg") == before and count_drawn == lost


def test_pictures_depend_on_no_seed_and_no_neighbour(prepare, tmp_path: Path) -> None:
    prepare(seed=1, reg_data_dir=tmp_path / "one")
    prepare(seed=2, num_class_images=5, reg_data_dir=tmp_path / "more")
    more = contents(tmp_path / "more")
    assert contents(tmp_path / "one").items() <= more.items() and len(more) == 5


def test_stopped_in_between(prepare, monkeypatch, tmp_path: Path) -> None:
    save = module.save_png

    def stop(path: Path, *rest) -> None:
        if path.name == "class_00001.png":
            raise KeyboardInterrupt
        save(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_png", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare()
    assert list(contents(tmp_path / "reg")) == ["class_00000.png"]
    prepare()
    prepare(reg_data_dir=tmp_path / "unbroken")
    assert contents(tmp_path / "reg") == contents(tmp_path / "unbroken")


def test_processes_share_the_pictures(prepare, compute, monkeypatch, tmp_path: Path) -> None:
    """The first one has drawn its share before the second looks, which is the worst that can happen."""
    seen = iter([module._look_into(tmp_path / "reg")] * 2)
    monkeypatch.setattr(module, "_look_into", lambda root: next(seen))
    shares = []
    for rank in range(2):
        before = set(contents(tmp_path / "reg")) if rank else set()
        prepare(by=replace(compute, rank=rank, world_size=2), num_class_images=5)
        shares.append(set(contents(tmp_path / "reg")) - before)
    assert [len(share) for share in shares] == [3, 2]


def test_folders_with_counts_in_their_names(prepare, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "reg" / "2_dog", 1)
    draw_pictures(tmp_path / "reg" / "other", 1, first=5)
    assert prepare().reg_data_dir == tmp_path / "reg"
    assert set(contents(tmp_path / "reg" / "2_dog")) == {"000.png", "class_00000.png", "class_00001.png"}
    assert contents(tmp_path / "reg") == {}


def test_an_empty_folder_with_a_count_is_filled(prepare, tmp_path: Path) -> None:
    counted = tmp_path / "reg" / "2_dog"
    counted.mkdir(parents=True)
    settings = prepare()
    assert len(pictures_in(counted)) == 3 and not pictures_in(tmp_path / "reg")
    assert open_datasets(settings).train.sample_count_of(is_reg=True) >= 4
    (tmp_path / "other" / "2_dog").mkdir(parents=True)
    draw_pictures(tmp_path / "other", 2)
    prepare(reg_data_dir=tmp_path / "other")  # which trains on what lies beside the empty folder
    assert len(pictures_in(tmp_path / "other")) == 3


def test_a_place_of_their_own(prepare, family, bench, tmp_path: Path) -> None:
    cache = {"cache_dir": tmp_path / "cache", "reg_data_dir": None}
    folder = prepare(**cache).reg_data_dir
    assert folder.parent == tmp_path / "cache" / "class"
    assert folder.name.startswith(f"{family.base_name}-a-photo-of-dog-") and len(pictures_in(folder)) == 3
    assert prepare(**cache, class_image_guidance=7.5, seed=9).reg_data_dir == folder
    others = [
        {"class_prompt": "a photo of dog."},
        {"class_prompt": "../../ÄÖ: <*>|" + "x" * 300},
        {"resolution": 128},
        {"class_image_guidance": 1},
        {"clip_skip": 2},
    ]
    folders = {prepare(**{**cache, **other, "num_class_images": 1}).reg_data_dir for other in others}
    assert len(folders | {folder}) == 6
    assert all(each.parent == folder.parent and len(each.name.encode()) < 200 for each in folders)


def test_a_dry_run_draws_nothing_and_counts_all(prepare, count_drawn, tmp_path: Path, capsys) -> None:
    settings = prepare(dry_run=True)
    told = capsys.readouterr().out
    assert f"class pictures: 0 are in {tmp_path / 'reg'}, 3 would be drawn of 'a photo of dog'." in told
    planned = open_datasets(settings).train
    assert not (tmp_path / "reg").exists() and not count_drawn
    prepare(num_class_images=1)
    partly = open_datasets(prepare(dry_run=True)).train
    real = open_datasets(prepare()).train
    for train in (planned, partly):
        assert train.bucket_counts() == real.bucket_counts() and train.sample_count == 8
        assert sum(picture.subset.is_reg for picture in train.pictures) == 3


def test_the_own_pictures_are_checked_first(prepare, count_drawn, bench, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the identifier 'zwx' of instance_prompt is in none"):
        prepare(instance_prompt="a photo of zwx dog")
    assert not count_drawn and not (tmp_path / "reg").exists()


def test_pictures_that_were_drawn_otherwise_are_said(prepare, tmp_path: Path, capsys) -> None:
    prepare()
    assert "otherwise" not in capsys.readouterr().err
    prepare(class_prompt="a photo of cat")
    said = capsys.readouterr().err
    assert "3 class pictures, such as" in said and "were drawn by another model, of other words" in said
    draw_pictures(tmp_path / "reg", 2)  # one's own are of no other way
    (tmp_path / "reg" / "class_00001.png").write_bytes(b"no picture")
    prepare()
    assert "1 class pictures, such as" in capsys.readouterr().err


def test_no_model_is_left(prepare, family, monkeypatch) -> None:
    alive = []
    for name in ("load_unet", "load_vae", "load_text_encoders"):
        load = getattr(family, name)

        def watched(dtype, load=load):
            module = load(dtype)
            alive.extend(weakref.ref(each) for each in (module if isinstance(module, list) else [module]))
            return module

        monkeypatch.setattr(family, name, watched)
    gc.disable()
    try:
        prepare()
        assert len(alive) >= 3 and not any(each() for each in alive)
    finally:
        gc.enable()


def test_black_pictures_are_no_class(prepare, compute, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Painter, "draw", lambda self, prompt, **rest: Image.new("RGB", (64, 64)))
    with pytest.raises(FloatingPointError, match="class picture 0 came out black"):
        prepare()
    assert not (tmp_path / "reg").exists()


def test_choices_are_made_for_each_picture(prepare, tmp_path: Path) -> None:
    choices = {"class_prompt": "a photo of {big|small} dog", "num_class_images": 6, "enable_wildcard": True}
    prepare(**choices)
    words = {path.stem: path.with_suffix(".txt").read_text() for path in pictures_in(tmp_path / "reg")}
    assert len(words) == 6 and set(words.values()) == {"a photo of big dog", "a photo of small dog"}
    for path in pictures_in(tmp_path / "reg"):
        assert Image.open(path).info["parameters"].startswith(words[path.stem] + "\n")
    before = contents(tmp_path / "reg")
    (tmp_path / "reg" / "class_00004.png").unlink()
    prepare(**choices)
    assert contents(tmp_path / "reg") == before


def test_without_choices_no_caption_is_written(prepare, tmp_path: Path) -> None:
    prepare(enable_wildcard=True)
    prepare(class_prompt="a {red|blue} dog", reg_data_dir=tmp_path / "plain")
    assert not list(tmp_path.rglob("*.txt"))


def test_a_wrong_network_is_refused_before_anything_is_drawn(prepare, count_drawn, tmp_path: Path) -> None:
    """What shows only on the model itself: lists of another length, layers that are not there."""
    for wrong in ({"network_args": ("block_dims=1,2",)}, {"network_layers": ("cellar",)}):
        with pytest.raises(InputError):
            prepare(network_module="lora", **wrong)
    assert not count_drawn and not (tmp_path / "reg").exists()


def test_a_state_of_another_run_is_refused_before_anything_is_drawn(prepare, count_drawn, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume"):
        prepare(network_module="lora", resume=str(tmp_path))
    assert not count_drawn and not (tmp_path / "reg").exists()


def test_an_optimizer_of_eight_bits_that_was_chosen_is_no_other_run(prepare, count_drawn, tmp_path: Path) -> None:
    """It is seen here that the state is another run's in all else, and not because of that."""
    folder = tmp_path / "toy-state"
    save_state(folder, State({}, {}, {"step": 1}, {"optimizer_type": "AdamW8bit"}))
    for memory, named in (("auto", False), ("as_set", True)):
        with pytest.raises(InputError) as refusal:
            prepare(network_module="lora", resume=str(folder), memory=memory)
        assert ("optimizer_type was" in str(refusal.value)) is named
    assert not count_drawn
