"""Masks of the training side: found where people put them, read to the picture's size, or refused in plain words."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from library.data.folders import EXTENSIONS, is_picture
from library.data.masks import find_mask, mask_name, read_mask
from library.errors import InputError

ORIENTATION = 0x0112  # EXIF's tag for how a camera was held; 6: what is left in the file is the top


def touch(*paths: Path) -> None:
    """Empty files."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    """The path of a picture that has been written there."""
    image.save(path, **options)
    return path


def test_a_mask_has_the_picture_s_name_and_is_no_picture() -> None:
    assert mask_name(Path("a/my photo.v2.jpg")) == "my photo.v2-masklabel.png"
    assert not is_picture(Path(mask_name(Path("a.jpg"))))


def test_a_mask_beside_the_picture(tmp_path: Path) -> None:
    picture = tmp_path / "photo.v2.jpg"
    touch(picture, tmp_path / "photo.png", tmp_path / "photo.v2.png")
    assert find_mask(picture) is None
    touch(tmp_path / "photo.v2-masklabel.png")
    assert find_mask(picture) == tmp_path / "photo.v2-masklabel.png"


@pytest.mark.parametrize("ending", [*EXTENSIONS, ".PNG", "-masklabel.png"])
def test_a_mask_in_a_folder_of_masks(tmp_path: Path, ending: str) -> None:
    masks, picture = tmp_path / "masks", tmp_path / "photo.v2.jpg"
    touch(picture, masks / "photo.png", masks / "photo.v2.txt")
    assert find_mask(picture, masks) is None
    touch(masks / f"photo.v2{ending}")
    assert find_mask(picture, masks) == masks / f"photo.v2{ending}"


def test_of_two_masks_the_one_without_losses_is_taken(tmp_path: Path) -> None:
    touch(*(tmp_path / "masks" / f"a{ending}" for ending in (".jpg", ".webp", ".png", "-masklabel.png")))
    assert find_mask(tmp_path / "a.jpg", tmp_path / "masks") == tmp_path / "masks" / "a.png"


def test_a_folder_is_read_anew_only_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, reads = tmp_path / "masks", []
    touch(*(masks / f"{number}.png" for number in range(3)))
    os.utime(masks, (1, 1))
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: reads.append(folder) or iterdir(folder))
    for number in range(3):
        assert find_mask(tmp_path / f"{number}.jpg", masks) == masks / f"{number}.png"
    assert reads == [masks]
    touch(masks / "3.png")
    assert find_mask(tmp_path / "3.jpg", masks) == masks / "3.png"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder of masks .*gone cannot be read: No such file"):
        find_mask(tmp_path / "a.jpg", tmp_path / "gone")


def test_the_folder_goes_before_the_place_beside_the_picture(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    touch(picture, tmp_path / "a-masklabel.png", tmp_path / "masks" / "b.png")
    assert find_mask(picture, tmp_path / "masks") == tmp_path / "a-masklabel.png"
    touch(tmp_path / "masks" / "a.webp")
    assert find_mask(picture, tmp_path / "masks") == tmp_path / "masks" / "a.webp"


def test_no_picture_is_its_own_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert find_mask(Path("a.png"), tmp_path) is None
    touch(tmp_path / "a-masklabel.png")
    assert find_mask(Path("a.png"), tmp_path) == tmp_path / "a-masklabel.png"


def grey_of(image: Image.Image) -> int:
    """The value of a mask of one value."""
    low, high = image.getextrema()
    assert image.mode == "L" and low == high
    return low


@pytest.mark.parametrize(
    ("image", "value"),
    [
        (Image.new("L", (8, 4), 77), 77),
        (Image.new("1", (8, 4), 1), 255),
        (Image.new("RGB", (8, 4), (200, 10, 90)), 200),
        (Image.new("RGB", (8, 4), (10, 255, 255)), 10),
        (Image.new("RGB", (8, 4), (60, 70, 80)).quantize(2), 60),
        (Image.new("RGBA", (8, 4), (255, 255, 255, 0)), 0),
        (Image.new("RGBA", (8, 4), (255, 255, 255, 51)), 51),
        (Image.new("LA", (8, 4), (90, 255)), 90),
        (Image.fromarray(np.full((4, 8), 257 * 50, np.uint16)), 50),
    ],
    ids=["grey", "bit", "red", "cyan", "palette", "clear", "fifth", "grey-opaque", "grey16"],
)
def test_every_kind_of_mask_is_read_by_its_red(tmp_path: Path, image: Image.Image, value: int) -> None:
    mask = read_mask(saved(tmp_path / "a.png", image), (8, 4))
    assert mask.size == (8, 4) and grey_of(mask) == value


def test_a_mask_s_numbers_are_no_colours(tmp_path: Path) -> None:
    """A colour profile whose red and blue are exchanged would make a red mask black."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = [(b"rXYZ", b"...."), (b"bXYZ", b"rXYZ"), (b"....", b"bXYZ"), ("sRGB".encode("utf-16-be"), b"eginrhtO")]
    for name, other in exchanged:
        assert name in profile
        profile = profile.replace(name, other)
    image = Image.new("RGB", (8, 4), (200, 0, 0))
    assert grey_of(read_mask(saved(tmp_path / "a.png", image, icc_profile=profile), (8, 4))) == 200


def test_a_mask_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image = Image.new("L", (8, 4))
    image.paste(255, (0, 0, 2, 4))
    mask = np.asarray(read_mask(saved(tmp_path / "a.png", image, exif=exif), (4, 8)))
    assert mask[:2].min() == 255 and mask[2:].max() == 0


def test_the_picture_s_own_transparency(tmp_path: Path) -> None:
    image = Image.new("RGBA", (8, 4), (0, 0, 0, 255))
    image.putpixel((3, 1), (255, 255, 255, 90))
    mask = read_mask(saved(tmp_path / "a.png", image), (8, 4), alpha_mask=True)
    assert mask.getpixel((3, 1)) == 90 and mask.getpixel((0, 0)) == 255
    opaque = read_mask(saved(tmp_path / "b.png", Image.new("RGB", (8, 4))), (8, 4), alpha_mask=True)
    assert grey_of(opaque) == 255


@given(width=st.integers(1, 300), height=st.integers(1, 300), factor=st.floats(0.3, 3))
def test_a_mask_of_another_size_is_scaled_or_refused(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, factor: float
) -> None:
    size = max(1, round(width * factor)), max(1, round(height * factor))
    path = saved(tmp_path_factory.mktemp("masks") / "a.png", Image.new("L", size, 99))
    if abs(size[0] / size[1] * height / width - 1) <= 0.01:
        mask = read_mask(path, (width, height))
        assert mask.size == (width, height) and grey_of(mask) == 99
    else:
        with pytest.raises(InputError, match=f"{size[0]} x {size[1]} pixels.* {width} x {height}"):
            read_mask(path, (width, height))


def test_scaling_keeps_what_is_where(tmp_path: Path) -> None:
    image = Image.new("L", (100, 50))
    image.paste(255, (0, 0, 50, 50))
    mask = np.asarray(read_mask(saved(tmp_path / "a.png", image), (404, 200)))
    assert mask[:, :198].min() == 255 and mask[:, 206:].max() == 0


def test_the_mask_of_a_picture_that_was_not_upright_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("L", (40, 30)))
    with pytest.raises(InputError, match="before it was turned upright"):
        read_mask(path, (30, 40))
    with pytest.raises(InputError, match="scale it to the picture's shape"):
        read_mask(path, (40, 31))


@pytest.mark.parametrize("alpha_mask", [False, True])
def test_what_cannot_be_read_is_named(tmp_path: Path, alpha_mask: bool) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(InputError, match=r"the mask .*a\.png cannot be read: its content is not a picture\."):
        read_mask(tmp_path / "a.png", (4, 4), alpha_mask)
    with pytest.raises(InputError, match="No such file"):
        read_mask(tmp_path / "b.png", (4, 4), alpha_mask)
