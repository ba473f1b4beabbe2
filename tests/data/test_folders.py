"""Folders: plain and kohya's, what is passed over is said, what is missing is named."""

from pathlib import Path

import pytest

from library.data.folders import EXTENSIONS, Subset, collect_pictures, find_subsets, pictures_in
from library.errors import InputError
from tests.data.samples import draw

DEFAULTS = Subset(image_dir=Path("unused"), num_repeats=3, shuffle_caption=True)


def test_a_plain_folder_is_one_subset_with_the_defaults(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (subset,) = find_subsets(tmp_path, False, DEFAULTS)
    assert subset == Subset(image_dir=tmp_path, num_repeats=3, shuffle_caption=True)


def test_every_format_is_found_whatever_its_case(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.JpEg", "c.jpg", "d.webp", "e.bmp", "f.txt", "._a.png", "g.gif"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.JpEg", "b.PNG", "c.jpg", "d.webp", "e.bmp"]


def test_kohya_folders_give_repeats_and_class_words(tmp_path: Path) -> None:
    draw(tmp_path / "10_sks my dog" / "a.png")
    draw(tmp_path / "2_style_of_x" / "a.png")
    subsets = find_subsets(tmp_path, True, DEFAULTS)
    found = {(subset.image_dir.name, subset.num_repeats, subset.class_tokens) for subset in subsets}
    assert found == {("10_sks my dog", 10, "sks my dog"), ("2_style_of_x", 2, "style_of_x")}
    assert all(subset.is_reg and subset.shuffle_caption for subset in subsets)


def test_what_lies_beside_kohya_folders_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "1_dog" / "a.png")
    draw(tmp_path / "loose.png")
    draw(tmp_path / "others" / "a.png")
    (tmp_path / "5_empty").mkdir()
    (subset,) = find_subsets(tmp_path, False, DEFAULTS)
    said = capsys.readouterr().err
    assert subset.image_dir.name == "1_dog"
    assert "1 pictures directly in" in said
    assert "folder others" in said and "`N_class words`" in said
    assert "folder 5_empty" in said and "no picture" in said


def test_folders_inside_a_plain_folder_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "more" / "b.png")
    (subset,) = find_subsets(tmp_path, False, DEFAULTS)
    assert subset.image_dir == tmp_path
    assert "folder more" in capsys.readouterr().err


def test_a_kohya_folder_may_be_named_itself(tmp_path: Path) -> None:
    draw(tmp_path / "7_cat" / "a.png")
    (subset,) = find_subsets(tmp_path / "7_cat", False, DEFAULTS)
    assert (subset.num_repeats, subset.class_tokens) == (7, "cat")


def test_nothing_found_names_folder_and_extensions(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(InputError) as caught:
        find_subsets(tmp_path, False, DEFAULTS)
    assert str(tmp_path) in str(caught.value)
    assert all(extension in str(caught.value) for extension in EXTENSIONS)


def test_pictures_one_folder_deeper_are_pointed_at(tmp_path: Path) -> None:
    draw(tmp_path / "dogs" / "a.png")
    with pytest.raises(InputError, match="dogs hold some.*10_class words"):
        find_subsets(tmp_path, False, DEFAULTS)


def test_missing_folder_and_file_as_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_subsets(tmp_path / "nowhere", False, DEFAULTS)
    with pytest.raises(InputError, match="is a file"):
        find_subsets(draw(tmp_path / "a.png"), False, DEFAULTS)


def test_collecting_names_every_bad_folder_and_drops_doubles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "good" / "a.png")
    (tmp_path / "good" / "b.tiff").touch()
    (tmp_path / "empty").mkdir()
    good = Subset(image_dir=tmp_path / "good")
    twice = Subset(image_dir=tmp_path / "empty" / ".." / "good", num_repeats=2)
    larger = Subset(image_dir=tmp_path / "good", resolution=(768, 768))
    never = Subset(image_dir=tmp_path / "good", num_repeats=0)
    bad = [Subset(image_dir=tmp_path / "empty"), Subset(image_dir=tmp_path / "nowhere")]
    other = Subset(image_dir=tmp_path / "good", caption_extension=".long")  # other captions of the same pictures
    own_class = Subset(image_dir=tmp_path / "good", is_reg=True)
    found, complaints = collect_pictures([good, twice, larger, other, own_class, never, *bad])
    assert [subset for subset, _ in found] == [good, larger, other]
    assert len(complaints) == 2 and "empty" in complaints[0] and "nowhere" in complaints[1]
    said = capsys.readouterr().err
    assert "given twice" in said and "repeats is 0" in said and "1 .tiff" in said


def test_links_count_as_what_they_lead_to_and_those_to_nothing_as_pictures(tmp_path: Path) -> None:
    real = draw(tmp_path / "elsewhere" / "a.png")
    folder = tmp_path / "in"
    folder.mkdir()
    targets = {"gone.png": "nothing", "circle.jpg": "circle.jpg", "linked.png": real, "folder.png": real.parent}
    for name, target in targets.items():
        (folder / name).symlink_to(target)
    assert [path.name for path in pictures_in(folder)] == ["circle.jpg", "gone.png", "linked.png"]
    assert [subset.image_dir for subset in find_subsets(folder, False, DEFAULTS)] == [folder]
