"""What is found wrong with pictures: each check on pictures just this side and just that side of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from library.data.folders import EXTENSIONS
from library.prepare import picture_checks
from library.prepare.duplicates import fingerprint
from library.prepare.examined import Examined, Wish, examine, find_folders
from library.prepare.findings import ERROR, NOTE, WARNING, Finding
from library.prepare.looks import look_at
from tests.prepare.patients import SUBSET, draw, good_folder, looks, photo, save, seen, unseen, wish

NO_UPSCALE = replace(SUBSET, bucket_no_upscale=True)
NO_BUCKET = replace(SUBSET, enable_bucket=False)


def found(pictures: list[Examined], *checks: Any, asked: Wish | None = None) -> dict[str, Finding]:
    """The findings of checks, by kind."""
    results = [each for check in checks or picture_checks.CHECKS for each in check(pictures, asked or wish())]
    assert len({each.kind for each in results}) == len(results)
    return {each.kind: each for each in results}


def names(each: Finding) -> dict[str, str]:
    """The pictures of a finding by name, with what is said of each."""
    return {path.name: words for path, words in each.pictures.items()}


def named(**changes: Any) -> Examined:
    """A picture with these looks."""
    return seen("odd.png", seen_as=looks(**changes))


FINE = [seen(f"fine_{number}.png") for number in range(4)]
# Kind -> looks that are just bad enough for it, and looks that are not.
LOOKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "blurred": ({"softness": 1.4}, {"softness": 1.39}),
    "dark": ({"brightest": 0.26}, {"brightest": 0.28}),
    "bright": ({"darkest": 0.81}, {"darkest": 0.79}),
    "low_information": ({"detail": 0.03}, {"detail": 0.05}),
    "greyscale": ({"colour": 0.04}, {"colour": 0.06}),
    "odd_shape": ({"width": 1280, "height": 512}, {"width": 1279, "height": 512}),
}


@pytest.mark.parametrize("kind", LOOKS)
def test_looks_that_are_bad_enough_are_found(kind: str) -> None:
    checks = (picture_checks.light, picture_checks.content, picture_checks.shapes)
    bad, good = LOOKS[kind]
    result = found([*FINE, named(**bad)], *checks)
    assert {each: list(names(finding)) for each, finding in result.items()} == {kind: ["odd.png"]}
    assert result[kind].severity == (NOTE if kind == "odd_shape" else WARNING)
    assert result[kind].sentence.startswith("1 ") and result[kind].sentence.endswith(".")
    assert found([*FINE, named(**good)], *checks) == {}


@pytest.mark.parametrize("kind", ["blurred", "dark", "bright", "low_information"])
def test_many_such_pictures_spoil_a_training(kind: str) -> None:
    pictures = [*FINE[:3], *(named(**LOOKS[kind][0]) for _ in range(2))]
    pictures[-1] = replace(pictures[-1], path=Path("other.png"))
    assert found(pictures, picture_checks.light, picture_checks.content)[kind].severity == ERROR


def test_an_empty_picture_is_only_empty() -> None:
    odd = named(detail=0.0, softness=9.0, brightest=0.0, colour=0.0)
    assert set(found([*FINE, odd], picture_checks.light, picture_checks.content)) == {"low_information"}


def test_greyscale_is_odd_only_among_coloured_pictures() -> None:
    grey = [seen(f"grey_{number}.png", seen_as=looks(colour=0.0)) for number in range(4)]
    assert found(grey, picture_checks.content) == found([*FINE, *grey], picture_checks.content) == {}
    result = found([*FINE, *grey[:3]], picture_checks.content)["greyscale"]
    assert "3 greyscale pictures among 4 in colour" in result.sentence and "leave them out" in result.sentence


def test_small_pictures_are_told_by_how_much_they_would_grow() -> None:
    sides = {"fits.png": 512, "nearly.png": 511, "small.png": 400, "half.png": 256, "tiny.png": 255}
    pictures = [seen(name, seen_as=looks(width=side, height=side)) for name, side in sides.items()]
    result = found(pictures, picture_checks.sizes)
    assert names(result["enlarged"]) == {"small.png": "1.28 times", "half.png": "2.0 times"}
    assert names(result["tiny"]) == {"tiny.png": "2.0 times"}
    assert (result["tiny"].severity, result["enlarged"].severity) == (ERROR, WARNING)
    assert "512x512" in result["tiny"].sentence and "up to 2.00 times" in result["enlarged"].sentence


def test_without_enlarging_only_what_is_far_too_small_is_told() -> None:
    pictures = [seen(f"{side}.png", seen_as=looks(width=side, height=side), subset=NO_UPSCALE) for side in (250, 400)]
    result = found(pictures, picture_checks.sizes, asked=wish(subset=NO_UPSCALE))
    assert names(result["tiny"]) == {"250.png": "2.0 times"}
    assert "enlarged" not in result and "base models" in result["tiny"].sentence


@pytest.mark.parametrize(("subset", "lost"), [(SUBSET, {"6:1": "33% cut off"}), (NO_BUCKET, {"6:1": "83% cut off"})])
def test_what_the_crop_costs_is_told(subset: Any, lost: dict[str, str]) -> None:
    shapes = {"1:1": (800, 800), "6:5": (960, 800), "6:1": (3072, 512)}
    pictures = [seen(name, seen_as=looks(width=w, height=h), subset=subset) for name, (w, h) in shapes.items()]
    result = found(pictures, picture_checks.shapes, asked=wish(subset=subset))["cropped"]
    assert names(result) == lost
    assert ("max_bucket_reso" in result.sentence) == subset.enable_bucket


def test_unreadable_pictures_are_named_with_the_reason() -> None:
    result = found([*FINE, unseen("broken.jpg", "it is cut short")], picture_checks.unreadable)["unreadable"]
    assert (names(result), result.severity) == ({"broken.jpg": "it is cut short"}, ERROR)
    assert found(FINE, picture_checks.unreadable) == {}


def test_copies_are_grouped_with_the_original_first(tmp_path: Path) -> None:
    def examined(name: str, image: Image.Image) -> Examined:
        return seen(name, seen_as=look_at(save(image, tmp_path / name)))

    twin, copy = examined("cat.png", photo("chelsea")), examined("a cat (1).png", photo("chelsea"))
    small = examined("small.png", photo("chelsea").resize((300, 200)))
    other = examined("coffee.png", photo("coffee"))
    result = found([copy, small, twin, other, unseen("broken.png")], picture_checks.duplicates)
    exact, near = ([[path.name for path in group] for group in result[kind].groups] for kind in result)
    assert list(result) == ["exact_duplicates", "near_duplicates"]
    assert exact == [["cat.png", "a cat (1).png"]]
    assert near == [["cat.png", "small.png"]]
    assert "1 exact copy of" in result["exact_duplicates"].sentence
    assert found([twin, other], picture_checks.duplicates) == {}


def test_masks_are_compared_with_their_pictures(tmp_path: Path) -> None:
    def on_disk(name: str) -> Examined:
        path = save(draw(1), tmp_path / name)
        return replace(seen(name, seen_as=looks(width=64, height=64)), path=path)

    pictures = [on_disk(name) for name in ("fits.png", "half.png", "wide.png", "broken.png", "none.png")]
    sizes = {"fits": (64, 64), "half": (32, 32), "wide": (64, 32)}
    for name, size in sizes.items():
        save(Image.new("L", size), tmp_path / f"{name}-masklabel.png")
    (tmp_path / "broken-masklabel.png").write_text("no picture")
    result = found([*pictures, unseen("gone.png")], picture_checks.masks)
    assert names(result["mask_scaled"]) == {"half-masklabel.png": "32x32, its picture 64x64"}
    assert names(result["mask_unfit"]) == {
        "wide-masklabel.png": "64x32, its picture 64x64",
        "broken-masklabel.png": "its content is not a picture",
    }
    assert (result["mask_unfit"].severity, result["mask_scaled"].severity) == (ERROR, NOTE)


def test_files_beside_the_pictures_are_looked_at(tmp_path: Path) -> None:
    good_folder(tmp_path, 2)
    save(draw(9), tmp_path / "good_001.jpg")
    save(draw(8), tmp_path / "film.gif")
    for name in ("good_000-masklabel.png", "lost-masklabel.png", ".hidden.gif"):
        save(Image.new("L", (8, 8)), tmp_path / name.replace(".gif", ".png"))
    pictures = examine(find_folders(tmp_path, wish(), recursive=False), processes=1)
    result = found(pictures, picture_checks.files)
    assert list(names(result["other_format"])) == ["film.gif"]
    assert list(names(result["mask_alone"])) == ["lost-masklabel.png"]
    assert [[path.name for path in group] for group in result["same_stem"].groups] == [["good_001.jpg", "good_001.png"]]
    assert set(result) == {"other_format", "mask_alone", "same_stem"}
    assert ".gif" not in EXTENSIONS


def test_good_pictures_are_not_complained_about(tmp_path: Path) -> None:
    for number, name in enumerate(("astronaut", "chelsea", "coffee")):
        save(photo(name).resize((768, 512 + 64 * number)), tmp_path / f"{name}.jpg", quality=90)
    pictures = examine(find_folders(tmp_path, wish(), recursive=False), processes=1)
    assert found(pictures) == {}
    assert fingerprint(photo("coffee")) != fingerprint(photo("chelsea"))
