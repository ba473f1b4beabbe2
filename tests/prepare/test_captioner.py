"""Captions of a folder: which pictures, in which batches, what is written when, and what is named."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from library.errors import InputError
from library.prepare.captioner import (
    NO_ANSWER,
    Decoding,
    caption_pictures,
    choose_pictures,
    show_captions,
    write_captions,
)
from library.prepare.walk import Outcome
from library.prepare.words import Wording

COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class Painted:
    """Stands for a model: says the colour of a picture, or what it is told to."""

    def __init__(self, answer: Callable[[str], list[str]] | None = None) -> None:
        self.answer = answer or (lambda color: [f"a {color} picture"])
        self.batches: list[list[str]] = []

    def pixels(self, picture: Image.Image) -> Tensor:
        return torch.tensor(picture.resize((1, 1)).getpixel((0, 0)))

    def answers(self, pixels: Sequence[Tensor], names: Sequence[str]) -> list[list[str]]:
        self.batches.append(list(names))
        return [self.answer(list(COLORS)[int(pixel.argmax())]) for pixel in pixels]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two sound pictures, a broken one, and one in a folder inside."""
    (tmp_path / "in").mkdir()
    for name, color in (("a.png", "red"), ("c.jpg", "green"), ("in/d.webp", "blue")):
        Image.new("RGB", (9, 5), COLORS[color]).save(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"no picture")
    return tmp_path


def pictures_of(folder: Path) -> list[Path]:
    return [folder / name for name in ("a.png", "b.png", "c.jpg", "in/d.webp")]


def run(folder: Path, model: Painted, mode: str = "skip", size: int = 2, wording: Wording | None = None) -> Outcome:
    outcome = Outcome()
    chosen = choose_pictures(pictures_of(folder), mode, ".txt", outcome)
    captions = caption_pictures(chosen, folder, model, wording or Wording(), size, keep_loops=False)
    write_captions(captions, mode, ".txt", outcome)
    return outcome


def written(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.txt"))}


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_every_sound_picture_gets_its_own_caption(folder: Path, size: int) -> None:
    model = Painted()
    outcome = run(folder, model, size=size)
    assert written(folder) == {
        "a.txt": "a red picture\n",
        "c.txt": "a green picture\n",
        "in/d.txt": "a blue picture\n",
    }
    assert outcome.counts == {"written": 3}
    assert outcome.failed == {folder / "b.png": "its content is not a picture"}
    assert [name for batch in model.batches for name in batch] == ["a.png", "c.jpg", "in/d.webp"]
    assert all(0 < len(batch) <= size for batch in model.batches)
    assert len(model.batches) <= 4 / size + 1


@pytest.mark.parametrize(
    ("mode", "result"),
    [
        ("skip", "old"),
        ("overwrite", "a red picture"),
        ("append", "old, a red picture"),
        ("prepend", "a red picture, old"),
    ],
)
def test_modes(folder: Path, mode: str, result: str) -> None:
    (folder / "a.txt").write_text("old")
    (folder / "c.txt").write_text(" \n")
    for _ in range(2):  # a second run changes nothing
        outcome = run(folder, Painted(), mode)
        assert written(folder)["a.txt"].strip() == result
        assert written(folder)["c.txt"] == "a green picture\n"
    assert outcome.counts == ({"kept": 3} if mode == "skip" else {"written": 3})


def test_a_run_that_was_stopped_goes_on(folder: Path) -> None:
    def stopping(color: str) -> list[str]:
        if color == "green":
            raise KeyboardInterrupt
        return [color]

    with pytest.raises(KeyboardInterrupt):
        run(folder, Painted(stopping), size=1)
    assert written(folder) == {"a.txt": "red\n"}
    model = Painted()
    assert run(folder, model).counts == {"kept": 1, "written": 2}
    assert [name for batch in model.batches for name in batch] == ["c.jpg", "in/d.webp"]


def test_empty_answers_are_failures(folder: Path) -> None:
    outcome = run(folder, Painted(lambda color: ["" if color == "red" else "dog"]), wording=Wording(forbidden=("dog",)))
    assert outcome.failed.pop(folder / "b.png")
    assert outcome.failed == {folder / name: NO_ANSWER for name in ("a.png", "c.jpg", "in/d.webp")}
    assert written(folder) == {}


def test_loops_are_cut_and_named(folder: Path) -> None:
    def answer(color: str) -> list[str]:
        return ["a cat and a cat and a cat" if color == "green" else "a cat"]

    captions = caption_pictures(pictures_of(folder), folder, Painted(answer), Wording(), 2, keep_loops=False)
    assert write_captions(captions, "skip", ".txt", Outcome()) == [folder / "c.jpg"]
    assert set(written(folder).values()) == {"a cat\n"}
    captions = caption_pictures(pictures_of(folder), folder, Painted(answer), Wording(), 2, keep_loops=True)
    assert write_captions(captions, "overwrite", ".txt", Outcome()) == []
    assert written(folder)["c.txt"] == "a cat and a cat and a cat\n"


def test_the_answer_with_the_forced_words_is_taken(folder: Path) -> None:
    model = Painted(lambda color: [f"a {color} cat", f"a {color} hat"])
    run(folder, model, wording=Wording("of", "now", "sks", ("hat", "bow"), ()))
    assert written(folder)["a.txt"] == "sks, of a red hat, bow now\n"


def test_pictures_that_share_a_caption_file_are_named(folder: Path) -> None:
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    outcome = Outcome()
    pictures = [folder / "a.jpg", folder / "a.png", folder / "b.png"]
    assert choose_pictures(pictures, "overwrite", ".txt", outcome) == [folder / "a.jpg", folder / "b.png"]
    assert "same file as that of a.jpg" in outcome.failed[folder / "a.png"]


@pytest.mark.parametrize("mode", ["skip", "overwrite", "append"])
def test_a_caption_that_is_no_text_is_left_alone(folder: Path, mode: str) -> None:
    (folder / "a.txt").write_bytes(b"caf\xe9")
    outcome = run(folder, Painted(), mode)
    assert "is not UTF-8" in outcome.failed[folder / "a.png"] and outcome.counts == {"written": 2}
    assert (folder / "a.txt").read_bytes() == b"caf\xe9"


def test_a_caption_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "c.txt").mkdir()
    captions = caption_pictures([folder / "a.png", folder / "c.jpg"], folder, Painted(), Wording(), 2, False)
    outcome = Outcome()
    write_captions(captions, "overwrite", ".txt", outcome)
    assert outcome.counts == {"written": 1} and list(outcome.failed) == [folder / "c.jpg"]


def test_showing_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome()
    captions = caption_pictures(pictures_of(folder), folder, Painted(), Wording(), 4, keep_loops=False)
    show_captions(captions, outcome)
    assert capsys.readouterr().out.splitlines()[0] == "a.png: a red picture"
    assert outcome.counts == {"shown": 3} and len(outcome.failed) == 1
    assert written(folder) == {}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_beams": 0}, "--num_beams is 0"),
        ({"min_length": 9, "max_length": 8}, "--max_length 8"),
        ({"min_length": 0, "max_length": 0}, "--max_length 0"),
        ({"min_length": -1}, "--min_length is -1"),
        ({"top_p": 0.0}, "--top_p is 0"),
        ({"top_p": 1.1}, "--top_p is 1.1"),
        ({"top_p": float("nan")}, "--top_p is nan"),
        ({"top_p": 0.9, "num_beams": 2}, "leave --num_beams out"),
        ({"temperature": 0.7}, "--temperature is for drawn words"),
        ({"top_p": 0.9, "temperature": 0.0}, "--temperature is 0"),
        ({"repetition_penalty": float("inf")}, "--repetition_penalty is inf"),
        ({"forced": ("Red Hat",), "forbidden": ("hat",)}, "'hat' is both forced and forbidden"),
        ({"prompt": "a photo of", "forbidden": ("photo",)}, "'photo' is forbidden and stands in the prompt"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(InputError) as caught:
        Decoding(**settings).check()  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_beams_are_for_searching() -> None:
    assert (Decoding().beams, Decoding(num_beams=5).beams, Decoding(top_p=0.9).beams) == (3, 5, 1)
    Decoding(top_p=0.9, temperature=1.3).check()
    Decoding().check()
