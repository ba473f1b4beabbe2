"""The dataset: built from folders, complaining about everything at once, describing itself truly."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.folders import Subset, find_subsets
from library.data.index import PictureIndex
from library.data.summary import describe
from library.data.views import cached_views, view_of
from library.errors import InputError
from tests.data.samples import draw, draw_folder

OPTIONS = DataOptions()


def small(folder: Path, **changes: object) -> Subset:
    """A folder of pictures brought to 64x64."""
    return replace(Subset(image_dir=folder, resolution=(64, 64)), **changes)


def contents_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file with its bytes and time of change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_pictures_captions_and_counts(tmp_path: Path) -> None:
    draw_folder(tmp_path / "3_sks dog", 4)
    draw(tmp_path / "3_sks dog" / "wordless.png", seed=50)
    draw_folder(tmp_path / "1_reg", 2, first=10)
    subsets = find_subsets(tmp_path, False, small(tmp_path))
    reg = replace(subsets[0], is_reg=True)
    dataset = build_dataset([reg, subsets[1]], DataOptions(prior_loss_weight=0.5), seed=1)
    assert dataset.picture_count(is_reg=False) == 5 and dataset.picture_count(is_reg=True) == 2
    assert dataset.sample_count == 30 and dataset.sample_count_of(is_reg=True) == 15
    assert dataset.steps_per_epoch(8) == 4 == len(dataset.plan(0, 8))
    assert dataset.bucket_counts() == {(64, 64): 30}
    assert dataset.pictures[-1].caption == "sks dog" and not dataset.pictures[-1].has_caption
    assert dataset.tag_frequency() == {
        "1_reg": {"thing": 2, "number 10": 1, "number 11": 1},
        "3_sks dog": {"thing": 4, "sks dog": 1} | {f"number {number}": 1 for number in range(4)},
    }
    assert dataset.dataset_dirs() == {"3_sks dog": {"n_repeats": 3, "img_count": 5}}
    assert dataset.dataset_dirs(is_reg=True) == {"1_reg": {"n_repeats": 1, "img_count": 2}}
    assert {sample.loss_weight for sample in dataset.samples if sample.is_reg} == {0.5}


def test_the_picture_folder_is_not_touched(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", 3)
    before = contents_of(folder)
    build_dataset([small(folder)], DataOptions(cache_dir=tmp_path / "cache"), 0)
    assert contents_of(folder) == before
    assert len(list((tmp_path / "cache" / "pictures").iterdir())) == 1


def test_all_complaints_come_at_once_and_whole_pictures_are_remembered(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "in", 3)
    (folder / "000.png").write_bytes(b"no picture")
    (folder / "bad.webp").write_bytes((folder / "002.png").read_bytes()[:300])
    (folder / "001.txt").write_bytes(b"\xff\xfe")
    subsets = [small(folder), small(tmp_path / "nowhere"), small(folder, resolution=(65, 64))]
    with pytest.raises(InputError) as caught:
        build_dataset(subsets, DataOptions(cache_dir=tmp_path / "cache"), 0)
    sentences = caught.value.sentences
    assert len(sentences) == len(set(sentences)) == 6
    unread = ("000.png cannot be", "bad.webp cannot be", "pictures (2), or set skip_unreadable")
    for words in (*unread, "001.txt is not UTF-8", "nowhere does", "65x64"):
        assert any(words in sentence for sentence in sentences)
    index = PictureIndex(tmp_path / "cache")
    assert [index.get(path) is not None for path in sorted(folder.glob("*.png"))] == [False, True, True]


def test_a_warm_start_opens_no_picture(tmp_path: Path) -> None:
    """Behind its back every picture and mask becomes rubbish of the same size and time."""
    subsets = [small(draw_folder(tmp_path / name, 100, first)) for name, first in (("one", 0), ("two", 100))]
    for number in range(100, 200, 10):
        draw(tmp_path / "two" / f"{number}-masklabel.png", seed=number)
    options = DataOptions(cache_dir=tmp_path / "cache", masked_loss=True)
    first = build_dataset(subsets, options, 0)
    for path in [*tmp_path.glob("one/*.png"), *tmp_path.glob("two/*.png")]:
        stamp = path.stat()
        path.write_bytes(b"?" * stamp.st_size)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    again = build_dataset(subsets, options, 0)
    assert again.pictures == first.pictures and again.plan(0, 4) == first.plan(0, 4)
    assert len(again.pictures) == 200 and sum(picture.mask is not None for picture in again.pictures) == 10


def test_unreadable_pictures_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw_folder(tmp_path, 3)
    (folder / "001.png").write_bytes(b"no picture")
    dataset = build_dataset([small(folder)], DataOptions(skip_unreadable=True), 0)
    assert [picture.path.name for picture in dataset.pictures] == ["000.png", "002.png"]
    assert dataset.skipped == {folder / "001.png": "its content is not a picture"}
    assert "001.png is left out" in capsys.readouterr().err
    assert "left out, unreadable: " in describe(dataset)
    for name in ("000.png", "002.png"):
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match="none of the 3 pictures"):
        build_dataset([small(folder)], DataOptions(skip_unreadable=True), 0)


def test_regularisation_alone_is_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures to train on"):
        build_dataset([small(draw_folder(tmp_path, 1), is_reg=True)], OPTIONS, 0)
    with pytest.raises(InputError, match="no pictures to train on"):
        build_dataset([], OPTIONS, 0)


def test_copies_are_allowed_told_apart_and_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw_folder(tmp_path, 2)
    (folder / "copy.png").write_bytes((folder / "000.png").read_bytes())
    draw(folder / "000.jpg", seed=9)
    dataset = build_dataset([small(folder), small(folder, resolution=(128, 128))], OPTIONS, 0)
    assert dataset.sample_count == 8
    assert len({dataset.draw_seed(sample, 0) for sample in dataset.samples}) == 8
    assert capsys.readouterr().err.count("1 pictures are exact copies") == 1


def test_pictures_without_any_words_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", seed=1, caption="first line\nsecond line")
    dataset = build_dataset([small(tmp_path)], OPTIONS, 0)
    said = capsys.readouterr().err
    assert "1 pictures in" in said and "neither a caption nor class words" in said
    assert "1 captions in" in said and "several lines" in said
    assert [picture.caption for picture in dataset.pictures] == ["", "first line"]
    assert "1 captions, 1 without: no words" in describe(dataset)


@pytest.fixture
def varied(tmp_path: Path) -> Dataset:
    """A dataset with everything that chance decides."""
    folder = draw_folder(tmp_path / "in", 10)
    return build_dataset([small(folder, num_repeats=5, shuffle_caption=True, flip_aug=True)], OPTIONS, 4)


def test_chance_is_a_function_of_seed_epoch_and_sample(varied: Dataset) -> None:
    twin = varied.with_pictures(reversed(varied.pictures))
    first = {(s.picture.path, s.repeat): s for s in varied.samples}
    for other in twin.samples:
        sample = first[other.picture.path, other.repeat]
        for epoch in (0, 5):
            assert varied.caption_of(sample, epoch) == twin.caption_of(other, epoch)
            assert varied.flip_of(sample, epoch) == twin.flip_of(other, epoch)
            assert varied.draw_seed(sample, epoch) == twin.draw_seed(other, epoch)


def test_chance_differs_between_samples_and_epochs(varied: Dataset) -> None:
    cases = [(sample, epoch) for sample in varied.samples for epoch in range(4)]
    flips = sum(varied.flip_of(*case) for case in cases) / len(cases)
    shuffled = sum(varied.caption_of(*case).startswith("number") for case in cases) / len(cases)
    seeds = {varied.draw_seed(*case) for case in cases}
    assert 0.35 < flips < 0.65 and 0.35 < shuffled < 0.65
    assert len(seeds) == len(cases) and max(seeds) < 2**63
    both = sum(varied.flip_of(*case) == varied.caption_of(*case).startswith("number") for case in cases)
    assert 0.35 < both / len(cases) < 0.65, "flip and shuffle are drawn apart"


def test_views_without_a_cache_are_drawn_anew_for_each_showing(varied: Dataset) -> None:
    pictures = [replace(p, subset=replace(p.subset, random_crop=True, color_aug=True)) for p in varied.pictures]
    fresh, cached = Dataset(pictures, 4), Dataset(pictures, 4, variants=3)
    cases = [(sample, epoch) for sample in fresh.samples for epoch in range(8)]
    assert all(fresh.view_of(*case) == Dataset(pictures, 4).view_of(*case) for case in cases[:9])
    assert all(fresh.view_of(*case).flip == cached.view_of(*case).flip == varied.flip_of(*case) for case in cases)
    for picture in pictures:
        own = [case for case in cases if case[0].picture is picture]
        kept = {cached.view_of(*case) for case in own}
        assert kept <= set(cached_views(picture, 3)) and len(kept) == len(set(cached_views(picture, 3)))
        assert len({fresh.view_of(*case) for case in own}) > len(kept)
    assert {Dataset(pictures, 5, variants=3).view_of(*case) for case in cases} == {
        cached.view_of(*case) for case in cases
    }, "another seed shows the same variants"
    assert [Dataset(pictures, 5, variants=3).view_of(*case) for case in cases] != [
        cached.view_of(*case) for case in cases
    ], "in another order"


def test_a_plain_view_is_plain(varied: Dataset) -> None:
    for sample in varied.samples[:5]:
        view = varied.view_of(sample, 1)
        assert view.is_centred and view == view_of(sample.picture, 0, varied.flip_of(sample, 1))


def test_several_lines_are_kept_where_one_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "a.png", caption="one, t\n\ntwo\n")
    dataset = build_dataset([small(tmp_path, enable_wildcard=True, num_repeats=40)], OPTIONS, 0)
    assert dataset.pictures[0].caption == "one, t\ntwo"
    assert {dataset.caption_of(sample, 0) for sample in dataset.samples} == {"one, t", "two"}
    assert dataset.tag_frequency() == {tmp_path.name: {"one": 1, "t": 1, "two": 1}}
    assert "several lines" not in capsys.readouterr().err


def test_token_warmup_follows_the_steps(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", caption="a, b, c")
    (sample,) = (dataset := build_dataset([small(tmp_path, token_warmup_step=0.5)], OPTIONS, 0)).samples
    shown = [dataset.caption_of(sample, 0, step, steps=8) for step in range(6)]
    assert shown == ["a", "a", "a, b", "a, b", "a, b, c", "a, b, c"]


def test_no_flip_without_flip_aug(tmp_path: Path) -> None:
    dataset = build_dataset([small(draw_folder(tmp_path, 8))], OPTIONS, 0)
    assert not any(dataset.flip_of(sample, 0) for sample in dataset.samples)
