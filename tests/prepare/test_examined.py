"""What is known of each picture: folders as training finds them, captions as it shows them, and where pictures go."""

from dataclasses import replace
from pathlib import Path

import pytest

from library.data.folders import Subset
from library.errors import InputError
from library.models.text import Tokenizer
from library.prepare.examined import TOKENIZER, Caption, Examined, examine, find_folders, token_counts
from tests.prepare.patients import SUBSET, draw, good_folder, looks, save, seen, unseen, wish

SMALL = replace(SUBSET, resolution=(64, 64), min_bucket_reso=64)


def examined(folder: Path, **changes: object) -> dict[str, Examined]:
    """The pictures of a folder, trained at 64x64, by name."""
    folders = find_folders(folder, wish(subset=replace(SMALL, **changes)), recursive=False)
    return {each.path.name: each for each in examine(folders, processes=1)}


def test_folders_are_found_as_training_finds_them(tmp_path: Path) -> None:
    save(draw(0), tmp_path / "3_sks dog" / "a.png")
    save(draw(1), tmp_path / "more" / "b.png")
    save(draw(2), tmp_path / "more" / "2_cat" / "c.png")
    found = find_folders(tmp_path, wish(), recursive=False)
    assert [(each.num_repeats, each.class_tokens, len(paths)) for each, paths in found.items()] == [(3, "sks dog", 1)]
    everywhere = find_folders(tmp_path, wish(), recursive=True)
    assert {each.image_dir.name: (each.num_repeats, each.class_tokens) for each in everywhere} == {
        "3_sks dog": (3, "sks dog"),
        "more": (1, None),
        "2_cat": (2, "cat"),
    }


def test_a_folder_of_which_nothing_is_used_is_refused(tmp_path: Path) -> None:
    save(draw(0), tmp_path / "0_sks dog" / "a.png")
    with pytest.raises(InputError, match="numbers of repeats must be 1 or more"):
        find_folders(tmp_path, wish(), recursive=False)
    for recursive in (False, True):
        with pytest.raises(InputError, match="does not exist"):
            find_folders(tmp_path / "gone", wish(), recursive)


def test_captions_are_those_of_training(tmp_path: Path) -> None:
    save(draw(0), tmp_path / "words.png", "red thing\nsecond line\n")
    save(draw(1), tmp_path / "empty.png", " \n")
    save(draw(2), tmp_path / "none.png")
    save(draw(3), tmp_path / "wrong.png").with_suffix(".txt").write_bytes(b"caf\xe9")
    found = {name: each.caption for name, each in examined(tmp_path, caption_prefix="a photo of").items()}
    assert found["words.png"] == Caption(("red thing", "second line"), ("a photo of red thing",), 5, has_file=True)
    assert (found["empty.png"].lines, found["empty.png"].has_file, found["none.png"].has_file) == ((), True, False)
    assert "not UTF-8" in found["wrong.png"].problem
    wild = examined(tmp_path, enable_wildcard=True)["words.png"].caption
    assert wild.words == "red thing\nsecond line"


def test_class_words_stand_in_for_a_caption(tmp_path: Path) -> None:
    save(draw(0), tmp_path / "2_sks dog" / "a.png")
    caption = examined(tmp_path)["a.png"].caption
    assert (caption.lines, caption.shown, caption.tokens) == ((), ("sks dog",), 2)


def test_tokens_are_counted_as_training_counts_them() -> None:
    texts = ["", "sks dog", "Café, 1girl, ^_^ :3", "a " * 90, "weiß\nstraße", "日本語, it's"]
    tokenizer = Tokenizer(TOKENIZER)
    assert token_counts(texts) == {text: tokenizer.count(text) for text in texts}
    assert token_counts([]) == {"": 0}


def test_pictures_go_where_training_puts_them(tmp_path: Path) -> None:
    save(draw(0, (64, 64)), tmp_path / "fits.png")
    save(draw(1, (32, 32)), tmp_path / "small.png")
    save(draw(2, (640, 64)), tmp_path / "long.png")
    (tmp_path / "broken.png").write_text("no picture")
    found = examined(tmp_path)
    assert (found["fits.png"].enlargement, found["fits.png"].loss, found["fits.png"].smallness) == (1, 0, 1)
    assert (found["small.png"].enlargement, found["small.png"].smallness) == (2, 2)
    assert found["long.png"].loss == pytest.approx(0.9)
    assert (found["broken.png"].looks, found["broken.png"].reason) == (None, "its content is not a picture")
    assert (found["broken.png"].enlargement, found["broken.png"].smallness, found["broken.png"].loss) == (0, 0, 0)


def test_without_enlarging_pictures_stay_small() -> None:
    subset = replace(SUBSET, bucket_no_upscale=True)
    small = seen("a", seen_as=looks(width=256, height=256), subset=subset)
    assert (small.enlargement, small.smallness) == (1, 2)
    assert unseen("b").enlargement == 0


def test_several_processes_see_the_same(tmp_path: Path) -> None:
    good_folder(tmp_path, 5)
    (tmp_path / "broken.png").write_text("no picture")
    folders = find_folders(tmp_path, wish(subset=SMALL), recursive=False)
    assert examine(folders, processes=2) == examine(folders, processes=1)
    assert [bool(each.looks and each.looks.thumbnail) for each in examine(folders, True, 1)] == [False] + [True] * 5


def test_buckets_that_cannot_be_are_refused_before_pictures_are_read(tmp_path: Path) -> None:
    wrong = replace(SMALL, bucket_reso_steps=24, image_dir=tmp_path)
    with pytest.raises(InputError, match="bucket_reso_steps"):
        examine({replace(wrong, bucket_reso_steps=12): [tmp_path / "gone.png"]})


def test_other_errors_are_not_taken_for_broken_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, thumbnail: bool) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr("library.prepare.examined.look_at", fail)
    subset = Subset(tmp_path)
    with pytest.raises(KeyError, match="a mistake of ours"):
        examine({subset: [tmp_path / "a.png"]}, processes=1)
