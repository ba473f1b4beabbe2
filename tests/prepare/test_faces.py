"""Faces: the astronaut's by the cascade, red squares by a model of which the answer is known."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from library.errors import InputError
from library.prepare.faces import Face, Finder, face_finder, largest_face
from tests.prepare.yunets import MIDDLE, SIZE, write_yunet

FACE = (225, 117)  # the nose of the astronaut, by eye, in her picture of 512 x 512 pixels


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for pictures of 160 x 96 pixels."""
    return write_yunet(tmp_path_factory.mktemp("yunet") / "yunet.onnx")


def red_square(size: tuple[int, int], *places: tuple[int, int, int], colour: str = "red") -> Image.Image:
    """Squares (left, top, side) on blue."""
    image = Image.new("RGB", size, "blue")
    for left, top, side in places:
        image.paste(colour, (left, top, left + side, top + side))
    return image


def test_the_astronauts_face() -> None:
    face = largest_face(Image.fromarray(data.astronaut()))
    assert face is not None
    assert face.middle == pytest.approx(FACE, abs=15)
    assert 70 < face.width < 130


@pytest.mark.parametrize("photograph", [data.chelsea, data.coffee, data.rocket])
def test_no_face_where_there_is_none(photograph: object) -> None:
    assert largest_face(Image.fromarray(photograph())) is None


def test_the_largest_of_several_faces() -> None:
    astronaut = Image.fromarray(data.astronaut()).crop((100, 0, 350, 250))
    canvas = Image.new("RGB", (900, 500), (150, 140, 130))
    canvas.paste(astronaut, (30, 30))
    canvas.paste(astronaut.resize((450, 450)), (420, 20))
    assert len(face_finder()(canvas)) == 2
    face = largest_face(canvas)
    assert face is not None
    assert face.middle == pytest.approx((420 + 125 * 1.8, 20 + 117 * 1.8), abs=30)


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (400, 20), (3, 3000)])
def test_a_picture_can_be_too_small_for_faces(size: tuple[int, int]) -> None:
    assert largest_face(Image.linear_gradient("L").resize(size).convert("RGB")) is None


def test_a_model_answers_in_the_pictures_pixels(model: Path) -> None:
    """Of a canvas of 160 x 96 the picture, shrunk to a quarter, fills 120 x 96."""
    for column, row in ((0, 0), (3, 2), (6, 1)):
        image = red_square((480, 384), (column * 64, row * 64, 64))
        found = face_finder(model)(image)
        size = [side * 16 * 4 for side in SIZE]
        corner = [(place + part) * 64 - side / 2 for place, part, side in zip((column, row), MIDDLE, size, strict=True)]
        assert max(found, key=lambda face: face.area) == pytest.approx((*corner, *size), rel=1e-4)


def test_no_red_no_face(model: Path) -> None:
    assert face_finder(model)(red_square((480, 384))) == []
    assert face_finder(model)(red_square((480, 384), (0, 0, 200), colour="white")) == []  # no redder than blue
    assert face_finder(model)(red_square((480, 384), (0, 0, 64), colour="#800000")) == []  # half as sure


def test_of_two_the_larger_and_each_once(model: Path) -> None:
    image = red_square((160, 96), (0, 0, 8), (96, 32, 32))
    found = face_finder(model)(image)
    assert sorted(round(face.area) for face in found)[::len(found) - 1] == [6 * 8**2, 6 * 32**2]
    assert len(face_finder(model)(red_square((160, 96), (0, 0, 8)))) == 1
    face = largest_face(image, model)
    assert face is not None and face.middle == pytest.approx((96 + 16, 32 + 8))


def test_a_model_of_open_size_sees_a_square(tmp_path: Path) -> None:
    model = write_yunet(tmp_path / "open.onnx", (640, 640), is_fixed=False)
    face = largest_face(red_square((320, 160), (64, 32, 16)), model)
    assert face is not None
    assert face.middle == pytest.approx((64 + 0.5 * 16, 32 + 0.25 * 16))


@settings(deadline=None, max_examples=40)
@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_any_size_is_seen(model: Path, size: tuple[int, int]) -> None:
    """All red: the middle of every face that is found lies in the picture, or in the cell at its edge."""
    cell = 32 * max(size[0] / 160, size[1] / 96)
    for face in face_finder(model)(Image.new("RGB", size, "red")):
        assert all(0 <= place <= side + cell for place, side in zip(face.middle, size, strict=True))


def test_a_finder_is_opened_once(model: Path) -> None:
    finders: list[Finder] = [face_finder(model), face_finder(model), face_finder(), face_finder()]
    assert finders[0] is finders[1] and finders[2] is finders[3] and finders[0] is not finders[2]


def test_what_is_no_yunet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError, match=r"text\.onnx"):
        face_finder(tmp_path / "text.onnx")
    with pytest.raises(InputError, match=r"not a YuNet.*obj_16"):
        face_finder(write_yunet(tmp_path / "other.onnx", skip="obj_16"))


def test_a_face_has_a_middle_and_an_area() -> None:
    face = Face(10, 20, 30, 40)
    assert face.middle == (25, 40) and face.area == 1200
