"""preprocess/crop_images.py as a person runs it: a folder in, a folder out, and wrong input refused at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from library.errors import InputError
from library.log import warn
from preprocess import crop_images
from tests.prepare.yunets import write_yunet

PROGRAM = Path(crop_images.__file__)
ROOT = PROGRAM.parents[1]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, one of them in a folder inside with its caption, and a broken file."""
    folder = tmp_path_factory.mktemp("originals")
    (folder / "in").mkdir()
    Image.fromarray(data.astronaut()).save(folder / "a.jpg", quality=92)
    Image.fromarray(data.coffee()).save(folder / "b.webp")
    Image.fromarray(data.chelsea()).save(folder / "in" / "c.png")
    (folder / "in" / "c.txt").write_text("a cat")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture
def photos(originals: Path, tmp_path: Path) -> Path:
    """The same in a place of this test's own; warnings are said anew."""
    warn.cache_clear()
    return shutil.copytree(originals, tmp_path / "photos")


def run(folder: Path, *arguments: str) -> dict[str, Image.Image]:
    """The pictures after a run that went well, by their paths in the folder that was written."""
    out = folder.parent / "out"
    assert crop_images.main([str(folder), str(out), "--processes", "1", *arguments]) == 0
    pictures = {path for path in out.rglob("*") if path.suffix in (".png", ".jpg")}
    return {path.relative_to(out).as_posix(): Image.open(path) for path in sorted(pictures)}


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """The files of a folder with their times."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_the_defaults(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(photos)
    made = run(photos)
    assert {name: image.size for name, image in made.items()} == {"a.png": (512, 512), "b.png": (512, 512)}
    assert contents(photos) == before
    assert capsys.readouterr().out.splitlines() == [
        "1 enlarged:",
        f"  {photos}/b.webp: 1.28 times",
        "crops: 2 written, 1 failed:",
        f"  {photos}/broken.png: its content is not a picture",
    ]
    run(photos)
    assert "crops: 2 kept, 1 failed:" in capsys.readouterr().out


def test_folders_inside_sizes_and_jpeg(photos: Path) -> None:
    made = run(photos, "--recursive", "--size", "96,64", "--format", "jpg", "--quality", "80")
    assert {name: (image.format, image.size) for name, image in made.items()} == {
        name: ("JPEG", (96, 64)) for name in ("a.jpg", "b.jpg", "in/c.jpg")
    }
    assert (photos.parent / "out" / "in" / "c.txt").read_text() == "a cat"


def test_whole_pictures_by_their_shorter_side(photos: Path) -> None:
    made = run(photos, "--min_side", "200", "--recursive")
    assert {name: image.size for name, image in made.items()} == {
        "a.png": (200, 200),
        "b.png": (300, 200),
        "in/c.png": (301, 200),
    }


def test_the_astronauts_face_is_in_the_middle(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    face = run(photos, "--crop", "face", "--size", "256,512")["a.png"]
    expected = Image.fromarray(data.astronaut()).crop((97, 0, 353, 512))
    assert abs(np.asarray(face).astype(int) - np.asarray(expected)).mean() < 25
    said = capsys.readouterr().out
    assert f"1 without a face that was found, cropped where most detail is:\n  {photos}/b.webp\n" in said


def test_a_face_model_and_a_limit(photos: Path, tmp_path: Path) -> None:
    model = write_yunet(tmp_path / "yunet.onnx")
    made = run(photos, "--crop", "face", "--face_model", str(model), "--max_upscale", "1.2")
    assert list(made) == ["a.png"]


WRONG = {
    "--size 512,512,512": "a size is W,H or one side",
    "--size 4": "8 to 16384 pixels",
    "--size wide": "not 'wide'",
    "--min_side 0": "8 to 16384 pixels",
    "--size 64 --min_side 64": "not allowed with",
    "--min_side 64 --crop smart": "cuts nothing",
    "--crop left": "invalid choice",
    "--face_model yunet.onnx": "--crop face",
    "--crop face --face_model gone.onnx": "no such file",
    "--max_upscale 0.5": "must be 1 or more",
    "--max_upscale nan": "must be 1 or more",
    "--quality 90": "--format jpg",
    "--format jpg --quality 0": "must be 1 to 100",
    "--processes -1": "must be 0 to 1024",
    "--caption_extension a/b": "caption_extension",
    "--wrong": "unrecognized",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_settings_are_refused(photos: Path, arguments: str) -> None:
    with pytest.raises(InputError) as caught:
        run(photos, *arguments.split())
    assert WRONG[arguments] in str(caught.value)
    assert not (photos.parent / "out").exists()


def test_a_face_model_that_is_none_is_refused_first(photos: Path) -> None:
    with pytest.raises(InputError, match=r"broken\.png"):
        run(photos, "--crop", "face", "--face_model", str(photos / "broken.png"))
    assert not (photos.parent / "out").exists()


def test_a_refusal_imports_nothing_heavy() -> None:
    code = "import sys\nfrom preprocess import crop_images\n"
    code += "try: crop_images.main(['a', 'b', '--size', '1'])\n"
    code += "except Exception as error: print(type(error).__name__, {'numpy', 'PIL', 'torch'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout == "InputError set()\n", result.stderr


def test_from_a_shell_with_several_processes(photos: Path) -> None:
    for number in range(8):
        (photos / f"cup {number}.webp").write_bytes((photos / "b.webp").read_bytes())
    command = [sys.executable, str(PROGRAM), str(photos), "cropped ü", "--size", "64", "--processes", "2"]
    settings = {"capture_output": True, "text": True, "encoding": "utf-8", "cwd": photos.parent}
    result = subprocess.run(command, **settings, env=os.environ | {"PYTHONIOENCODING": "utf-8"})
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2] == "crops: 10 written, 1 failed:"
    assert len(list((photos.parent / "cropped ü").iterdir())) == 10
    result = subprocess.run([*command[:2], "gone", "out"], **settings)
    assert (result.returncode, result.stderr) == (2, "error: the picture folder gone does not exist.\n")
