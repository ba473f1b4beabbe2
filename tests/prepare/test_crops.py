"""Crops: the right pixels with their masks and captions, current ones kept, others' files left alone."""

import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from library.errors import InputError
from library.log import warn
from library.prepare.crops import Crop, Handling, Recipe, choose, crop_folder, crop_picture
from tests.prepare.yunets import write_yunet

CENTER = Recipe(size=(64, 64))


@pytest.fixture(autouse=True)
def _warnings_anew() -> None:
    warn.cache_clear()


def crop(source: Path, recipe: Recipe = CENTER, **handling: object) -> Crop:
    """Crops a picture into the folder `out` beside it."""
    return crop_picture((source, source.parent / "out" / f"{source.stem}{recipe.ending}"), recipe, Handling(**handling))


def pixels(path: Path) -> np.ndarray:
    """The values of a picture file, (height, width, 3), or (height, width) of a mask."""
    return np.asarray(Image.open(path))


def noise(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A picture in which every pixel is different."""
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def save(path: Path, image: Image.Image, caption: str | None = None, **options: object) -> Path:
    """Writes a picture, and its caption."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


@pytest.mark.parametrize("size", [(64, 64), (101, 64), (64, 99)])
def test_what_needs_no_resizing_keeps_its_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = noise(size)
    assert crop(save(tmp_path / "a.png", picture)) == Crop("written", factor=1)
    left, top = (size[0] - 64) // 2, (size[1] - 64) // 2
    assert np.array_equal(pixels(tmp_path / "out" / "a.png"), np.asarray(picture)[top : top + 64, left : left + 64])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    picture=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    way=st.sampled_from(["center", "smart", "min_side"]),
)
def test_any_picture_gets_the_size(
    tmp_path: Path, picture: tuple[int, int], size: tuple[int, int], way: str
) -> None:
    source = save(tmp_path / "a.bmp", noise(picture))
    recipe = Recipe(size=None, min_side=size[0]) if way == "min_side" else Recipe(size=size, crop=way)
    made = crop(source, recipe, overwrite=True)
    shape = pixels(tmp_path / "out" / "a.png").shape
    assert (shape[1], shape[0]) == recipe.size_of(picture)
    assert made.factor == pytest.approx(max(shape[1] / picture[0], shape[0] / picture[1]))


def test_a_turned_picture_is_cropped_upright(tmp_path: Path) -> None:
    """Stored lying on its side; orientation 6 asks to turn it clockwise."""
    stored = Image.new("RGB", (120, 60), "red")
    stored.paste("blue", (60, 0, 120, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    crop(save(tmp_path / "a.jpg", stored, exif=exif), Recipe(size=(32, 64)))
    made = pixels(tmp_path / "out" / "a.png")
    assert made.shape == (64, 32, 3)
    assert made[10, 16, 0] > 200 > 50 > made[10, 16, 2] and made[54, 16, 2] > 200 > 50 > made[54, 16, 0]


def test_every_kind_of_picture_becomes_plain_rgb(tmp_path: Path) -> None:
    grey = Image.linear_gradient("L").resize((96, 80))
    palette = noise((96, 80)).quantize(16)
    several = {"save_all": True, "append_images": [noise((96, 80), 1)]}
    sources = [
        save(tmp_path / "grey.png", grey),
        save(tmp_path / "deep.png", Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)),
        save(tmp_path / "clear.png", Image.new("RGBA", (96, 80), (0, 0, 0, 0))),
        save(tmp_path / "palette.png", palette, transparency=bytes(range(16))),
        save(tmp_path / "ink.jpg", Image.new("CMYK", (96, 80))),
        save(tmp_path / "web.webp", noise((96, 80)), lossless=True),
        save(tmp_path / "web.avif", noise((96, 80))),
        save(tmp_path / "phone.heic", noise((96, 80))),
        save(tmp_path / "moving.gif", palette, **several),
        save(tmp_path / "pages.tiff", noise((96, 80)), **several),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = {path.stem + path.suffix: crop(path) for path in sources}
    assert [name for name, each in made.items() if each.has_more] == ["moving.gif", "pages.tiff"]
    for path in sources:
        image = Image.open(tmp_path / "out" / f"{path.stem}.png")
        assert (image.mode, image.size) == ("RGB", (64, 64))
    assert pixels(tmp_path / "out" / "clear.png").min() == 255
    grey_pixels, deep_pixels = (pixels(tmp_path / "out" / f"{name}.png").astype(int) for name in ("grey", "deep"))
    assert abs(grey_pixels - deep_pixels).max() <= 1 and grey_pixels.std() > 30


def test_a_phones_second_picture_is_not_spoken_of(tmp_path: Path) -> None:
    """MPO: a JPEG with another (for depth or brightness) behind it."""
    path = tmp_path / "a.jpg"
    noise((96, 80)).save(path, "MPO", save_all=True, append_images=[noise((96, 80), 1)])
    assert Image.open(path).n_frames == 2
    assert crop(path) == Crop("written", factor=pytest.approx(0.8))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(30, 200), st.integers(30, 200)),
    size=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    way=st.sampled_from(["center", "smart"]),
)
def test_masks_are_cut_like_their_pictures(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int], way: str
) -> None:
    """The picture is its own mask: white where it counts. Only at the edge may they differ."""
    picture = Image.new("L", shape)
    picture.paste(255, (shape[0] // 3, shape[1] // 4, shape[0], shape[1] * 3 // 4))
    save(tmp_path / "a-masklabel.png", picture)
    crop(save(tmp_path / "a.bmp", picture.convert("RGB")), Recipe(size=size, crop=way), overwrite=True)
    made, mask = pixels(tmp_path / "out" / "a.png")[:, :, 0], pixels(tmp_path / "out" / "a-masklabel.png")
    assert mask.shape == made.shape and set(np.unique(mask)) <= {0, 255}
    differs = abs(made.astype(int) - mask) > 128
    assert differs.sum() <= 2 * sum(size)


def test_a_soft_mask_stays_soft_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    source = save(tmp_path / "a.jpg", noise((256, 200)))
    save(tmp_path / "a-masklabel.png", Image.linear_gradient("L").rotate(90).resize((256, 200)))
    crop(source)
    row = pixels(tmp_path / "out" / "a-masklabel.png")[32].astype(int)
    assert len(set(row)) > 40 and (np.diff(row) >= 0).all()
    save(tmp_path / "a-masklabel.png", Image.new("L", (100, 200)))
    with pytest.raises(InputError, match=r"a-masklabel\.png is 100 x 200"):
        crop(source)


def test_a_face_is_in_the_middle_as_far_as_it_goes(tmp_path: Path) -> None:
    astronaut = Image.fromarray(data.astronaut())
    recipe = Recipe(size=(256, 512), crop="face")
    (left, top, right, bottom), has_no_face = choose(astronaut, recipe)
    assert not has_no_face and (top, bottom, right - left) == (0, 512, 256)
    assert (left + right) / 2 == pytest.approx(225, abs=15)
    cat = Image.fromarray(data.chelsea())
    assert choose(cat, recipe) == (choose(cat, replace(recipe, crop="smart"))[0], True)
    source = save(tmp_path / "cat.png", cat)
    assert crop(source, recipe).has_no_face and not crop(source, replace(recipe, crop="smart")).has_no_face


def test_a_face_model_is_asked(tmp_path: Path) -> None:
    model = write_yunet(tmp_path / "yunet.onnx")
    image = Image.new("RGB", (160, 96), "blue")
    image.paste("red", (96, 32, 128, 64))
    assert choose(image, Recipe(size=(64, 64), crop="face", face_model=model)) == ((64, 0, 160, 96), False)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_a_name_that_is_no_text_is_kept(tmp_path: Path, ending: str) -> None:
    source = save(tmp_path / "caf\udce9.png", noise((64, 48)))
    recipe = replace(CENTER, ending=ending)
    assert crop(source, recipe).word == "written" and (tmp_path / "out" / f"caf\udce9{ending}").exists()
    assert crop(source, recipe).word == "kept"


def test_captions_come_along_and_are_kept(tmp_path: Path) -> None:
    source = save(tmp_path / "a.jpg", noise((80, 64)), caption="words, ü\n")
    (tmp_path / "a.caption").write_bytes(b"caf\xe9")
    (tmp_path / "a.tags").write_text("tags")
    assert not crop(source).has_other_caption
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["a.caption", "a.png", "a.txt"]
    assert (out / "a.caption").read_bytes() == b"caf\xe9" and (out / "a.txt").read_text("utf-8") == "words, ü\n"
    crop(source, caption_extension=".tags")
    assert (out / "a.tags").read_text() == "tags"
    (out / "a.txt").write_text("edited")
    assert crop(source) == Crop("kept", has_other_caption=True)
    assert (out / "a.txt").read_text() == "edited"
    assert crop(source, overwrite=True).word == "written"
    assert (out / "a.txt").read_text("utf-8") == "words, ü\n"


def test_current_crops_are_kept_and_others_made_anew(tmp_path: Path) -> None:
    source, made = save(tmp_path / "a.png", noise((80, 64))), tmp_path / "out" / "a.png"
    crop(source)
    content, time = made.read_bytes(), made.stat().st_mtime_ns
    assert crop(source) == Crop("kept") and made.stat().st_mtime_ns == time
    assert crop(source, overwrite=True).word == "written" and made.read_bytes() == content
    assert crop(source, Recipe(size=(64, 32))).word == "written"
    assert crop(source).word == "written" and made.read_bytes() == content
    os.utime(source, (made.stat().st_mtime + 5,) * 2)
    assert crop(source).word == "written"
    source = save(source, noise((90, 64), 1))
    os.utime(source, (0, 0))
    assert crop(source).word == "written" and made.read_bytes() != content


DIFFERENT = {
    "size": (64, 72),
    "min_side": 80,
    "crop": "smart",
    "max_upscale": 2.0,
    "quality": 90,
}


@pytest.mark.parametrize("name", [*DIFFERENT, "face_model"])
def test_every_setting_that_changes_pixels_is_in_the_words(tmp_path: Path, name: str) -> None:
    first = Recipe(size=None if name == "min_side" else (64, 64), min_side=64, ending=".jpg")
    model = write_yunet(tmp_path / "yunet.onnx")
    assert replace(first, **{name: DIFFERENT.get(name, model)}).words != first.words
    assert replace(first).words == first.words


def test_a_mask_that_comes_or_goes_is_followed(tmp_path: Path) -> None:
    source, mask = save(tmp_path / "a.png", noise((80, 64))), tmp_path / "out" / "a-masklabel.png"
    crop(source)
    own = save(tmp_path / "a-masklabel.png", Image.new("L", (80, 64), 255))
    assert crop(source).word == "written" and mask.exists()
    assert crop(source).word == "kept"
    mask.unlink()
    assert crop(source).word == "written" and mask.exists()
    own.unlink()
    assert crop(source).word == "written" and not mask.exists()
    save(mask, Image.new("L", (64, 64)))  # made of the crop
    assert crop(source).word == "kept" and mask.exists()
    assert crop(source, overwrite=True).word == "written" and mask.exists()


@pytest.mark.parametrize("name", ["a.png", "a-masklabel.png"])
def test_what_others_made_is_in_the_way(tmp_path: Path, name: str) -> None:
    source = save(tmp_path / "a.png", noise((80, 64)), caption="words")
    save(tmp_path / "a-masklabel.png", Image.new("L", (80, 64)))
    foreign = save(tmp_path / "out" / name, noise((9, 9)))
    before = foreign.read_bytes()
    for overwrite in (False, True):
        with pytest.raises(InputError, match="not made by this program"):
            crop(source, overwrite=overwrite)
    assert foreign.read_bytes() == before and len(list(foreign.parent.iterdir())) == 1


def test_pictures_over_the_limit_are_left_out(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", noise((40, 32)), caption="words")
    assert crop(source, replace(CENTER, max_upscale=1.99)) == Crop("left out", factor=2)
    assert not (tmp_path / "out").exists()
    assert crop(source, replace(CENTER, max_upscale=2)).word == "written"


def folder_of(tmp_path: Path) -> Path:
    """Two pictures that are large enough, two that are not, and a broken one."""
    folder = tmp_path / "in"
    for name, size in {"a.png": (80, 64), "in/b.jpg": (64, 64), "c.webp": (40, 32), "d.gif": (20, 90)}.items():
        save(folder / name, noise(size))
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def test_a_folder_is_worked_through_and_everything_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = folder_of(tmp_path), tmp_path / "out"
    assert crop_folder(folder, out, replace(CENTER, max_upscale=3), Handling(recursive=True), processes=1) == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == ["a.png", "c.png", "in/b.png"]
    assert capsys.readouterr().out.splitlines() == [
        "1 enlarged:",
        f"  {folder}/c.webp: 2.00 times",
        "1 left out, as --max_upscale is 3:",
        f"  {folder}/d.gif: 3.20 times",
        "crops: 3 written, 1 left out, 1 failed:",
        f"  {folder}/broken.jpg: its content is not a picture",
    ]
    crop_folder(folder, out, replace(CENTER, max_upscale=1), Handling(), processes=1)
    said = capsys.readouterr()
    assert "holds pictures not of this run (c.png)" in said.err and "crops: 1 written, 2 left out" in said.out


def test_if_nothing_is_written_the_input_is_wrong(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    (folder / "a.png").unlink()
    with pytest.raises(InputError, match="none of the crops") as caught:
        crop_folder(folder, tmp_path / "out", replace(CENTER, max_upscale=1), Handling(), processes=1)
    assert "d.gif: it would be enlarged 3.20 times, and --max_upscale is 1." in caught.value.sentences[-1]
    assert not (tmp_path / "out").exists()


def test_processes_change_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for number in range(9):
        save(folder / f"{number}.png", noise((80 + number, 64), number))
    made = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        assert crop_folder(folder, out, replace(CENTER, crop="smart"), Handling(), processes) == 0
        made.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert made[0] == made[1] and len(made[0]) == 9
