"""From pictures to masks: each where it belongs, of the picture's size, and whole; what fails is named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.errors import InputError
from library.prepare.masking import make_masks, plan_masks
from library.prepare.masks import Mask, Recipe
from library.prepare.segmenters import Transparency
from library.prepare.walk import Outcome


class Red:
    """Finds what is red, in a fourth of the size, and notes how many pictures it gets at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def prepare(self, image: Image.Image) -> Mask | None:
        """The red channel; "L" pictures can have no mask."""
        red = image.getchannel(0)
        size = tuple(max(1, side // 4) for side in red.size)
        return np.asarray(red.resize(size, Image.Resampling.BOX)) if image.mode == "RGB" else None

    def run(self, inputs: Sequence[Mask]) -> Sequence[Mask]:
        """The same."""
        self.batches.append(len(inputs))
        return inputs

    def mask_of(self, output: Mask) -> Mask:
        """The same; a brightness of 13 is its bad luck."""
        if output.max() == 13:
            raise ValueError("13 is no number")
        return output


def drawn(path: Path, red: int = 255, size: tuple[int, int] = (20, 12)) -> Path:
    """A picture whose left half is red."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.paste((red, 0, 0), (0, 0, size[0] // 2, size[1]))
    image.save(path)
    return path


def make(pictures: Sequence[Path], recipe: Recipe | None = None, batch_size: int = 2) -> tuple[Outcome, Red]:
    """Makes the masks beside these pictures."""
    recipe, red = recipe or Recipe(), Red()
    targets, outcome = plan_masks(pictures, pictures[0].parent, None, recipe.mode)
    make_masks(targets, outcome, red, recipe, batch_size, 2)
    return outcome, red


def test_masks_lie_beside_the_pictures_or_in_a_folder_like_theirs(tmp_path: Path) -> None:
    pictures = [tmp_path / "a.png", tmp_path / "in" / "a.png"]
    beside, _ = plan_masks(pictures, tmp_path, None, "skip")
    assert list(beside.values()) == [tmp_path / "a-masklabel.png", tmp_path / "in" / "a-masklabel.png"]
    masks = Path("masks")
    elsewhere, _ = plan_masks(pictures, tmp_path, masks, "skip")
    assert list(elsewhere.values()) == [masks / "a-masklabel.png", masks / "in" / "a-masklabel.png"]


@pytest.mark.parametrize(("mode", "kept"), [("skip", 1), ("overwrite", 0), ("add", 0)])
def test_a_mask_that_is_there_is_kept_in_one_mode_only(tmp_path: Path, mode: str, kept: int) -> None:
    (tmp_path / "a-masklabel.png").touch()
    targets, outcome = plan_masks([tmp_path / "a.png", tmp_path / "b.png"], tmp_path, None, mode)
    assert outcome.counts.get("kept", 0) == kept and len(targets) == 2 - kept


@pytest.mark.parametrize("has_mask", [False, True])
def test_two_pictures_of_one_name_cannot_both_have_a_mask(tmp_path: Path, has_mask: bool) -> None:
    if has_mask:
        (tmp_path / "a-masklabel.png").touch()
    pictures = [tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "in" / "a.png"]
    targets, outcome = plan_masks(pictures, tmp_path, None, "skip")
    assert list(targets) == pictures[2:] if has_mask else [pictures[0], pictures[2]]
    assert outcome.failed == {
        pictures[1]: "its mask would have the name of a.jpg's; rename one of the two pictures"
    }


def test_masks_have_the_pictures_sizes_and_say_where_things_are(tmp_path: Path) -> None:
    sizes = [(20, 12), (120, 8), (8, 120), (2, 2), (301, 201)]
    pictures = [drawn(tmp_path / f"{number}.png", size=size) for number, size in enumerate(sizes)]
    before = [picture.read_bytes() for picture in pictures]
    outcome, red = make(pictures, Recipe(threshold=0.5))
    assert outcome.counts == {"written": 5} and sorted(red.batches) == [1, 2, 2]
    for picture, size, content in zip(pictures, sizes, before, strict=True):
        mask = Image.open(tmp_path / f"{picture.stem}-masklabel.png")
        assert (mask.mode, mask.size, mask.format) == ("L", size, "PNG")
        assert mask.getpixel((0, 0)) == 255
        assert size[0] == 2 or mask.getpixel((size[0] - 1, size[1] - 1)) == 0
        assert picture.read_bytes() == content
    assert len(list(tmp_path.iterdir())) == 10


def test_failures_are_named_and_stop_nothing(tmp_path: Path) -> None:
    good = [drawn(tmp_path / f"{number}.png") for number in range(3)]
    text, grey, unlucky, black = (tmp_path / f"{name}.png" for name in ("text", "grey", "unlucky", "black"))
    text.write_bytes(b"text")
    Image.new("L", (4, 4)).save(grey)
    drawn(unlucky, red=13)
    drawn(black, red=0)
    outcome, _ = make([good[0], text, unlucky, good[1], black, grey, good[2], tmp_path / "gone.png"])
    assert outcome.counts == {"written": 3, "without transparency": 1}
    assert outcome.failed == {
        text: "its content is not a picture",
        unlucky: "13 is no number",
        black: "its mask would be all black; none is written, so all of the picture counts",
        tmp_path / "gone.png": "No such file or directory",
    }
    assert sorted(tmp_path.glob("*-masklabel.png")) == [tmp_path / f"{n}-masklabel.png" for n in range(3)]


def values(path: Path) -> list[int]:
    """The left and the right half of a mask of 20 x 12 pixels."""
    mask = Image.open(path)
    return [mask.getpixel((1, 6)), mask.getpixel((18, 6))]


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(mode="overwrite"), [200, 0]),
        (Recipe(mode="overwrite", invert=True), [55, 255]),
        (Recipe(mode="overwrite", threshold=0.5, min_value=0.1), [255, 26]),
        (Recipe(mode="add"), [200, 90]),
        (Recipe(mode="subtract"), [55, 90]),
        (Recipe(mode="intersect"), [100, 0]),
        (Recipe(mode="add", min_value=0.5), [200, 128]),
    ],
)
def test_new_masks_meet_those_that_are_there(tmp_path: Path, recipe: Recipe, expected: list[int]) -> None:
    picture = drawn(tmp_path / "a.png", red=200)
    old = Image.new("L", (20, 12), 90)
    old.paste(100, (0, 0, 10, 12))
    old.save(tmp_path / "a-masklabel.png")
    for _ in range(2):  # twice is the same as once
        outcome, _ = make([picture], recipe)
        assert outcome.counts == {"written": 1}
        assert values(tmp_path / "a-masklabel.png") == expected


def test_an_old_mask_that_does_not_fit_is_named_and_left(tmp_path: Path) -> None:
    picture, path = drawn(tmp_path / "a.png"), tmp_path / "a-masklabel.png"
    Image.new("L", (12, 20), 255).save(path)
    before = path.read_bytes()
    outcome, _ = make([picture], Recipe(mode="add"))
    assert "is 12 x 20 pixels and its upright picture 20 x 12" in outcome.failed[picture]
    assert path.read_bytes() == before
    outcome, _ = make([picture], Recipe(mode="overwrite"))
    assert outcome.counts == {"written": 1} and values(path) == [255, 0]


def test_a_model_that_fails_ends_the_run_and_leaves_whole_files(tmp_path: Path) -> None:
    class Tired(Red):
        def run(self, inputs: Sequence[Mask]) -> Sequence[Mask]:
            if self.batches:
                raise InputError("the memory is full.")
            return super().run(inputs)

    pictures = [drawn(tmp_path / f"{number}.png") for number in range(6)]
    targets, outcome = plan_masks(pictures, tmp_path, None, "skip")
    with pytest.raises(InputError, match="the memory is full"):
        make_masks(targets, outcome, Tired(), Recipe(), 2, 2)
    masks = sorted(path.name for path in tmp_path.iterdir() if path not in pictures)
    assert masks in ([], ["0-masklabel.png"], ["0-masklabel.png", "1-masklabel.png"])
    outcome, red = make(pictures)
    assert sum(red.batches) == 6 - len(masks) and outcome.counts.get("kept", 0) == len(masks)


def test_transparency_goes_the_same_way(tmp_path: Path) -> None:
    Image.new("RGBA", (7, 5), (9, 9, 9, 128)).save(tmp_path / "a.png")
    drawn(tmp_path / "b.png")
    targets, outcome = plan_masks([tmp_path / "a.png", tmp_path / "b.png"], tmp_path, tmp_path / "masks", "skip")
    make_masks(targets, outcome, Transparency(), Recipe(), 4, 1)
    assert outcome.counts == {"written": 1, "without transparency": 1}
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a-masklabel.png"]
    assert Image.open(tmp_path / "masks" / "a-masklabel.png").getextrema() == (128, 128)
