"""Metadata of sd-scripts' fine-tuning: one file names the pictures, and says their captions and tags."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from library.data.captions import caption_variant
from library.data.dataset import DataOptions, build_dataset
from library.data.folders import EXTENSIONS, Subset
from library.data.metadata import read_metadata
from library.data.summary import describe
from library.errors import InputError
from tests.data.samples import draw, draw_folder


def read(file: Path, folder: Path, separator: str = ", ") -> dict[str, list[str]]:
    """What a file says, by the pictures' names."""
    return {path.name: lines for path, lines in read_metadata(file, folder, EXTENSIONS, separator).items()}


def as_json(folder: Path, entries: dict[str, Any]) -> Path:
    """A JSON file of metadata beside the pictures."""
    file = folder / "meta.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, 000.png and 001.png."""
    return draw_folder(tmp_path / "pictures", 2)


def test_caption_and_tags(folder: Path) -> None:
    file = as_json(
        folder,
        {
            "001.png": {"caption": "a frog", "tags": "animal, frog", "image_size": [48, 40], "train_resolution": [1]},
            "000.png": {"tags": "dög, red"},
        },
    )
    assert read(file, folder) == {"001.png": ["a frog, animal, frog"], "000.png": ["dög, red"]}
    assert list(read(file, folder)) == ["001.png", "000.png"]


def test_tags_are_on_every_line(folder: Path) -> None:
    """The example of sd-scripts' documentation."""
    caption = "a cartoon of a frog\ntest multiline caption1\ntest multiline caption2"
    file = as_json(folder, {"000.png": {"caption": caption, "tags": "open mouth, frog"}})
    assert read(file, folder)["000.png"] == [
        "a cartoon of a frog, open mouth, frog",
        "test multiline caption1, open mouth, frog",
        "test multiline caption2, open mouth, frog",
    ]


def test_the_separator_given_is_the_separator_used(folder: Path) -> None:
    file = as_json(folder, {"000.png": {"caption": "a", "tags": "b\nc"}, "001.png": {"tags": ["d", "e"]}})
    assert read(file, folder, "; ") == {"000.png": ["a; b; c"], "001.png": ["d; e"]}


def test_lines_of_json(folder: Path) -> None:
    lines = [
        {"image_path": "000.png", "caption": "a\u2028b", "image_size": [48, 40]},
        {"image_path": str(folder / "001.png"), "caption": "one\n\ntwo", "tags": "t"},
    ]
    file = folder / "meta.jsonl"
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n"
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert read(file, folder) == {"000.png": ["a", "b"], "001.png": ["one, t", "two, t"]}


def test_names_without_endings_and_whole_paths(folder: Path, tmp_path: Path) -> None:
    draw(folder / "sub" / "deep.JPG", seed=9)
    draw(tmp_path / "else.webp", seed=8)
    file = as_json(folder, {"000": {}, "sub/deep": {"tags": "x"}, str(tmp_path / "else.webp"): {"caption": "y"}})
    assert read(file, folder) == {"000.png": [], "deep.JPG": ["x"], "else.webp": ["y"]}


def test_every_missing_picture_is_named(folder: Path) -> None:
    file = as_json(folder, {"gone.png": {}, "000.png": {}, "lost": {}, "": {}, "x" * 999: {}})
    with pytest.raises(InputError) as caught:
        read(file, folder)
    (sentence,) = caught.value.sentences
    assert f"names 4 pictures that are not in {folder}: gone.png, lost, " in sentence
    assert "image_dir" in sentence and "000.png" not in sentence


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("m.json", "{", "m.json is not valid JSON"),
        ("m.json", "[]", "must hold one table of pictures, not list"),
        ("m.json", "{}", "names no pictures"),
        ("m.json", '{"000.png": "a caption"}', "m.json, '000.png': write"),
        ("m.json", '{"000.png": {"caption": 5}}', "m.json, '000.png': caption must be text, not 5"),
        ("m.json", '{"000.png": {"tags": ["a", 5]}}', "tags must be text, not ['a', 5]"),
        ("m.json", '{"000.png": {"caption": "\\ud800"}}', "a character in it is cut in two"),
        ("m.jsonl", '{"image_path": "000.png"}\n{"caption": "b"}', "m.jsonl, line 2: image_path is missing"),
        ("m.jsonl", '{"image_path": "000.png"}\nnonsense', "m.jsonl, line 2: this is not valid JSON"),
        ("m.jsonl", "\n", "names no pictures"),
    ],
)
def test_mistakes_in_the_file(folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(folder / name, folder)
    assert words in str(caught.value)


def test_mistakes_are_told_all_at_once(folder: Path) -> None:
    wrong = ['{"image_path": "000.png", "caption": 5}', '{"caption": "b"}', "nonsense", "[]", '{"image_path": "gone"}']
    (folder / "m.jsonl").write_text("\n".join(wrong), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(folder / "m.jsonl", folder)
    sentences = caught.value.sentences
    assert [f"line {number}: " in sentence for number, sentence in enumerate(sentences[:4], 1)] == [True] * 4
    assert len(sentences) == 5 and "not in" in sentences[4]


def test_a_picture_named_twice_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The names may differ; as in sd-scripts the last counts."""
    assert read(as_json(folder, {"000": {"tags": "a"}, "000.png": {"tags": "b"}}), folder) == {"000.png": ["b"]}
    said = capsys.readouterr().err
    assert "names pictures twice" in said and "000.png" in said


def test_masks_are_no_pictures_here_either(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "000-masklabel.png").write_bytes((folder / "000.png").read_bytes())
    file = as_json(folder, {path.name: {} for path in folder.glob("*.png")})
    dataset = build_dataset([Subset(folder, file)], DataOptions(), 0)
    assert sorted(picture.path.name for picture in dataset.pictures) == ["000.png", "001.png"]
    assert f"{file} names 1 masks, which are not trained on" in capsys.readouterr().err


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "latin.json").write_bytes('{"000.png": {"tags": "ö"}}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.json is not UTF-8"):
        read(folder / "latin.json", folder)
    with pytest.raises(InputError, match=r"none\.json cannot be read: No such file"):
        read(folder / "none.json", folder)


LINES = st.lists(st.text("ab ", min_size=1).map(str.strip).filter(bool), max_size=3)


@given(LINES, LINES)
def test_no_line_and_no_tag_is_lost(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], tags: list[str]
) -> None:
    place = tmp_path_factory.getbasetemp()
    (place / "one.png").touch()
    file = as_json(place, {"one.png": {"caption": "\n".join(lines), "tags": ", ".join(tags)}})
    expected = [", ".join([line, *tags]) for line in lines] or ([", ".join(tags)] if tags else [])
    assert read(file, place)["one.png"] == expected


def test_a_dataset_of_metadata(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Captions come from the file alone, and the file's name is that of the pictures in the result's metadata."""
    entries = {"000.png": {"caption": "one\ntwo", "tags": "t"}, "001.png": {}}
    file = as_json(tmp_path, entries)
    subset = Subset(folder, file, class_tokens="thing", resolution=(64, 64), num_repeats=2, enable_wildcard=True)
    dataset = build_dataset([subset, replace(subset, metadata_file=None)], DataOptions(), 0)
    first, second = dataset.pictures[:2]
    assert (first.caption, first.has_caption) == ("one, t\ntwo, t", True)
    assert (second.caption, second.has_caption) == ("thing", False)
    assert dataset.pictures[2].caption == "thing, number 0"
    assert {caption_variant(first.caption, subset, seed, 0) for seed in range(30)} == {"one, t", "two, t"}
    assert dataset.dataset_dirs()["meta.json"] == {"n_repeats": 2, "img_count": 2}
    assert dataset.tag_frequency()["meta.json"] == {"one": 1, "two": 1, "t": 2, "thing": 1}
    assert describe(dataset).startswith(f'{file}: 2 pictures x 2, 1 captions, 1 without: "thing"')
    build_dataset([subset, subset], DataOptions(), 0)
    assert f"{file} is given twice" in capsys.readouterr().err


def test_unreadable_and_missing_pictures_are_told_together(folder: Path, tmp_path: Path) -> None:
    (folder / "000.png").write_bytes(b"no picture")
    file = as_json(tmp_path, {"000.png": {}})
    subsets = [Subset(folder, file), Subset(folder, as_json(folder, {"gone": {}}))]
    with pytest.raises(InputError) as caught:
        build_dataset(subsets, DataOptions(), 0)
    assert ["000.png cannot be" in s or "gone" in s for s in caught.value.sentences] == [True, True, False]
