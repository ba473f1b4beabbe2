"""Planning edits of a whole folder, showing them, and what an undo may overwrite."""

from pathlib import Path

import pytest

from library.errors import InputError
from library.prepare.editing import (
    GREEN,
    NO_CAPTION,
    PLAIN,
    RED,
    Caption,
    diff_lines,
    emptied,
    make_changes,
    names_of,
    plan_edits,
    read_caption,
    read_captions,
    without_foreign,
)
from library.prepare.edits import Edits
from library.prepare.journal import Change
from library.prepare.selection import Selection
from library.prepare.walk import Outcome


def captions(*texts: str | None) -> list[Caption]:
    """Captions 0.txt, 1.txt ... of a folder that is not there."""
    raws = [None if text is None else text.encode() for text in texts]
    pairs = zip(raws, texts, strict=True)
    return [Caption(Path(f"in/{number}.txt"), raw, text) for number, (raw, text) in enumerate(pairs)]


def planned(edits: Edits, *texts: str | None, chosen: Selection | None = None) -> dict[str, str]:
    """The captions that change, by their files' names."""
    plan = plan_edits(captions(*texts), edits, chosen or Selection(), ",")
    return {change.path.name: (change.after or b"").decode() for change in plan.changes}


def test_captions_are_read_without_mark_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    assert read_caption(path) == Caption(path, None, None)
    path.write_bytes(b"\xef\xbb\xbfa,\r\nb \r\n")
    assert read_caption(path) == Caption(path, b"\xef\xbb\xbfa,\r\nb \r\n", "a,\r\nb")
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        read_caption(path)


def test_pictures_that_share_a_caption_have_it_once_and_bad_ones_are_noted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "link.txt").symlink_to("a.txt")
    (tmp_path / "folder.txt").mkdir()
    outcome = Outcome()
    pictures = [tmp_path / name for name in ("a.png", "a.jpg", "link.png", "folder.png")]
    assert [caption.text for caption in read_captions(pictures, ".txt", outcome)] == ["a"]
    assert outcome.failed == {tmp_path / "folder.txt": "Is a directory"}


def test_only_what_changes_is_planned() -> None:
    plan = plan_edits(captions("b, a", "a, b", None, ""), Edits(sort="alphabetical"), Selection(), ",")
    assert [(change.path.name, change.before, change.after) for change in plan.changes] == [
        ("0.txt", b"b, a", b"a, b\n")
    ]
    assert plan.counts == {"unchanged": 2, "not chosen": 0, NO_CAPTION: 1}


def test_only_chosen_captions_are_edited_but_all_are_counted() -> None:
    chosen = Selection(all_of=["x"])
    edits = Edits(sort="frequency", prune_common=0.9)
    assert planned(edits, "a, b, x, z", "b, z", "b, z", chosen=chosen) == {"0.txt": "a, x\n"}
    plan = plan_edits(captions("a, b, x, z", "b, z", "b, z"), edits, chosen, ",")
    assert plan.pruned == {"b": 3, "z": 3}
    assert plan.counts == {"unchanged": 0, "not chosen": 2, NO_CAPTION: 0}


def test_tags_are_counted_after_replacing() -> None:
    edits = Edits(replace={"kitty": ["cat"]}, prune_common=1.0)
    assert planned(edits, "cat, red", "kitty, blue") == {"0.txt": "red\n", "1.txt": "blue\n"}


def test_what_no_caption_loses_is_not_called_pruned() -> None:
    plan = plan_edits(captions("sks, a", "sks, b"), Edits(prune_common=1.0, keep_first=1), Selection(), ",")
    assert (plan.pruned, plan.changes) == ({}, [])


def test_only_set_makes_new_captions() -> None:
    assert planned(Edits(add_front=["sks"]), "a", None, "") == {"0.txt": "sks, a\n", "2.txt": "sks\n"}
    both = Edits(add_front=["sks"], set_empty="dog")
    assert planned(both, "a", None, "") == {"0.txt": "sks, a\n", "1.txt": "sks, dog\n", "2.txt": "sks, dog\n"}


def test_a_file_that_cannot_be_written_is_named_and_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    changes = [Change(tmp_path / name, None, b"new") for name in ("a.txt", "b.txt")]
    outcome = Outcome()
    assert make_changes(changes, "writing", outcome) == changes[1:]
    assert outcome.failed == {tmp_path / "a.txt": "Is a directory"}
    assert (tmp_path / "b.txt").read_bytes() == b"new"


def test_what_an_undo_may_overwrite() -> None:
    changes = [Change(Path(name), b"new", b"old") for name in ("a.txt", "b.txt")]
    foreign = [Path("a.txt")]
    assert without_foreign(changes, [], False, False) == without_foreign(changes, foreign, True, False) == changes
    assert without_foreign(changes, foreign, False, True) == changes[1:]
    with pytest.raises(InputError) as caught:
        without_foreign(changes, foreign, False, False)
    assert caught.value.sentences[0] == "a.txt was changed after the edit."
    assert "--force" in caught.value.sentences[1]


def test_the_diff() -> None:
    folder = Path("in")
    change = Change(folder / "deep" / "a.txt", b"a, b\r\nc", b"a, x\nc\n")
    assert [*diff_lines(change, folder, ",", False)] == ["deep/a.txt", "- a, b", "- c", "+ a, x", "+ c"]
    coloured = [*diff_lines(change, folder, ",", True)]
    assert coloured[1:] == [f"- a,{RED} b{PLAIN}", "- c", f"+ a,{GREEN} x{PLAIN}", "+ c"]
    new = Change(folder / "a.txt", None, b"\n")
    assert [*diff_lines(new, folder, ",", False)] == ["a.txt", "- (no caption)", "+ (empty)"]


def test_captions_that_lose_all_words_are_told() -> None:
    paths = [Path(f"{number}.txt") for number in range(7)]
    changes = [Change(path, b"a", b"\n") for path in paths]
    changes += [Change(Path("b.txt"), b"a", b"b"), Change(Path("c.txt"), None, b"\n")]
    assert emptied(changes) == paths
    assert names_of(paths) == "0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more"
    assert names_of(paths[:2]) == "0.txt, 1.txt"
