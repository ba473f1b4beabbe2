"""Which pictures have masks: those that are found, checked by the index, and said where they are odd."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from library.data import index as index_module
from library.data.dataset import DataOptions, Dataset, build_dataset
from library.data.decoding import examine
from library.data.folders import Subset
from library.data.summary import describe
from library.data.validation import validation_view
from library.errors import InputError
from tests.data.samples import draw_folder

MASKED = DataOptions(masked_loss=True)


def white(path: Path, size: tuple[int, int] = (48, 40)) -> Path:
    """Writes a mask in which everything counts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 255).save(path)
    return path


def built(folder: Path, options: DataOptions = MASKED, **changes: object) -> Dataset:
    """The dataset of one folder."""
    return build_dataset([Subset(image_dir=folder, resolution=(64, 64), **changes)], options, 0)


def names_of(dataset: Dataset) -> list[str | None]:
    """The mask file of each picture."""
    return [picture.mask.path.name if picture.mask else None for picture in dataset.pictures]


def test_masks_beside_the_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw_folder(tmp_path, 3)
    mask = white(folder / "001-masklabel.png")
    dataset = built(folder)
    assert names_of(dataset) == [None, "001-masklabel.png", None] and dataset.has_masks
    assert dataset.pictures[1].mask.sha256 == examine(mask).sha256
    assert capsys.readouterr().err.count("2 of 3 pictures have no mask; all of their pixels count") == 1
    assert names_of(validation_view(dataset)) == names_of(dataset)
    assert "1 masks" in describe(dataset)


def test_masks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path / "10_sks dog", 2)
    white(tmp_path / "masks" / "000.png")
    white(tmp_path / "by folder" / "10_sks dog" / "001.png")
    assert names_of(built(folder, conditioning_data_dir=tmp_path / "masks")) == ["000.png", None]
    assert names_of(built(folder, conditioning_data_dir=tmp_path / "by folder")) == [None, "001.png"]


def test_transparency_stands_in_for_a_mask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw_folder(tmp_path, 2)
    white(folder / "001-masklabel.png")
    assert names_of(built(folder, DataOptions(), alpha_mask=True)) == ["000.png", "001.png"]
    assert capsys.readouterr().err == ""
    dataset = built(folder, alpha_mask=True)
    assert names_of(dataset) == ["000.png", "001-masklabel.png"]
    assert [picture.mask.is_alpha for picture in dataset.pictures] == [True, False]
    assert capsys.readouterr().err == ""


def test_masks_that_nobody_asked_for_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw_folder(tmp_path / "in", 2)
    assert not built(folder, DataOptions()).has_masks
    assert capsys.readouterr().err == ""
    white(folder / "001-masklabel.png")
    assert names_of(built(folder, DataOptions())) == [None, None]
    said = capsys.readouterr().err
    assert f"the masks in {folder} are not used, because masked_loss is off" in said
    white(tmp_path / "masks" / "000.png")
    built(folder, DataOptions(), conditioning_data_dir=tmp_path / "masks")
    assert f"the masks in {tmp_path / 'masks'}, {folder} are not used" in capsys.readouterr().err


def test_a_picture_at_two_resolutions_is_counted_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw_folder(tmp_path, 2)
    white(folder / "001-masklabel.png")
    for path in folder.glob("*.txt"):
        path.unlink()
    build_dataset([Subset(folder, resolution=(side, side)) for side in (64, 128)], MASKED, 0)
    said = capsys.readouterr().err
    assert "1 of 2 pictures have no mask" in said and f"2 pictures in {folder} have neither" in said


def test_no_mask_at_all_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not built(draw_folder(tmp_path, 2)).has_masks
    assert "masked_loss is on, but no picture has a mask" in capsys.readouterr().err


def test_masks_of_regularisation_pictures_may_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, reg = draw_folder(tmp_path / "in", 1), draw_folder(tmp_path / "reg", 1, first=5)
    white(folder / "000-masklabel.png")
    subset = Subset(image_dir=folder, resolution=(64, 64))
    dataset = build_dataset([subset, replace(subset, image_dir=reg, is_reg=True)], MASKED, 0)
    assert names_of(dataset) == ["000-masklabel.png", None]
    assert capsys.readouterr().err == ""


def test_bad_masks_are_all_named(tmp_path: Path) -> None:
    folder = draw_folder(tmp_path, 3)
    (folder / "000-masklabel.png").write_bytes(b"no picture")
    white(folder / "001-masklabel.png", (40, 48))
    white(folder / "002-masklabel.png", (24, 20))
    (folder / "002.txt").write_bytes(b"\xff")
    with pytest.raises(InputError) as caught:
        built(folder)
    broken, turned, caption = caught.value.sentences
    assert "002.txt is not UTF-8" in caption
    assert "000-masklabel.png cannot be read: its content is not a picture" in broken
    assert "001-masklabel.png is 40 x 48 pixels and its upright picture 48 x 40" in turned


def test_a_warm_start_reads_no_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = draw_folder(tmp_path / "in", 2)
    white(folder / "001-masklabel.png")
    options = DataOptions(tmp_path / "cache", masked_loss=True)
    first = built(folder, options)

    def never(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr(index_module, "examine", never)
    assert built(folder, options).pictures == first.pictures
