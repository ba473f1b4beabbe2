"""preprocess/make_masks.py: masks by every method, run as people run it; wrong input refused with nothing written."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from library.errors import InputError
from preprocess import make_masks
from tests.prepare.segmenters import CLIPSEG_SIDE, noise, write_clipseg, write_colour_model

PROGRAM = Path(make_masks.__file__)
ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_colour_model(folder / "isnet-toy.onnx", batch="pictures")
    write_clipseg(folder / "clipseg")
    return folder


def half_red(path: Path, size: tuple[int, int] = (40, 24), **options: object) -> Path:
    """A picture whose left half is red and the other black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    image.save(path, **options)
    return path


def run(*arguments: object) -> int:
    """The program's exit status, run in this process on the CPU."""
    words = [str(argument) for argument in arguments]
    return make_masks.main(words if "alpha" in words else [*words, "--device", "cpu"])


def mask_beside(picture: Path) -> Image.Image:
    """The mask that lies beside a picture."""
    return Image.open(picture.with_name(f"{picture.stem}-masklabel.png"))


def test_a_folder_as_people_have_it(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upright = half_red(tmp_path / "a.jpg", quality=95)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the left of what is stored is the top
    turned = half_red(tmp_path / "in" / "b.webp", exif=exif, lossless=True)
    (tmp_path / "c.png").write_bytes(b"no picture")
    (tmp_path / "d.txt").write_text("a caption")
    before = {path: path.read_bytes() for path in (upright, turned)}
    command = (tmp_path, "--method", "rembg", "--model", models / "isnet-toy.onnx", "--recursive", "--threshold", 0.5)

    assert run(*command) == 0
    said = capsys.readouterr().out.splitlines()
    told = "a model like isnet (told by its name or size; --normalize changes it), 16 x 16 pixels."
    assert said[0] == f"{models}/isnet-toy.onnx: {told}"
    assert said[1:] == ["masks: 2 written, 1 failed:", f"  {tmp_path}/c.png: its content is not a picture"]
    mask, mask_turned = np.asarray(mask_beside(upright)), np.asarray(mask_beside(turned))
    assert mask.shape == (24, 40) and mask[:, :17].min() == 255 and mask[:, 23:].max() == 0
    assert mask_turned.shape == (40, 24) and mask_turned[:17].min() == 255 and mask_turned[23:].max() == 0
    assert before == {path: path.read_bytes() for path in before}

    (tmp_path / "c.png").unlink()
    (models / "gone").mkdir(exist_ok=True)
    assert run(*command[:4], models / "gone" / "isnet.onnx", "--recursive") == 0  # nothing to do, so none is opened
    assert capsys.readouterr().out == "masks: 2 kept.\n"
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == [
        "a-masklabel.png", "a.jpg", "b-masklabel.png", "b.webp", "d.txt"
    ]  # fmt: skip


def test_as_a_program_of_its_own(tmp_path: Path) -> None:
    Image.new("RGBA", (7, 5), (9, 9, 9, 128)).save(tmp_path / "a.png")
    half_red(tmp_path / "b.png")
    command = [sys.executable, str(PROGRAM), str(tmp_path), "--method", "alpha"]
    first = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (first.returncode, first.stdout) == (0, "masks: 1 written, 1 without transparency.\n"), first.stderr
    second = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (second.returncode, second.stdout) == (0, "masks: 1 kept, 1 without transparency.\n"), second.stderr
    refused = subprocess.run([*command, "--grow", "-1"], capture_output=True, text=True, cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr == "error: --grow -1 must be 0 to 16384.\n"


@pytest.mark.parametrize("method", ["alpha", "rembg", "clipseg"])
def test_odd_sizes(models: Path, tmp_path: Path, method: str) -> None:
    sizes = [(1, 1), (1, 300), (900, 2), (33, 35)]
    for number, size in enumerate(sizes):
        image = noise(size, number).convert("RGBA")
        image.putpixel((0, 0), (255, 0, 0, 200))
        image.save(tmp_path / f"{number}.png")
    own = {
        "alpha": [],
        "rembg": ["--model", models / "isnet-toy.onnx", "--normalize", "birefnet"],
        "clipseg": ["--model", models / "clipseg", "--prompt", "a dog", "--threshold", 0.001],
    }
    assert run(tmp_path, "--method", method, "--grow", 3, "--shrink", 1, "--blur", 1.5, *own[method]) == 0
    assert [mask_beside(tmp_path / f"{number}.png").size for number in range(4)] == sizes


def test_clipseg_takes_the_union_of_its_prompts(models: Path, tmp_path: Path) -> None:
    noise((CLIPSEG_SIDE, CLIPSEG_SIDE), 1).save(tmp_path / "a.png")
    found = {}
    for name, prompts in {"dog": ["a dog"], "name": ["a long name"], "both": ["a dog", "a long name"]}.items():
        words = [word for prompt in prompts for word in ("--prompt", prompt)]
        options = ("--method", "clipseg", "--model", models / "clipseg", "--threshold", 0.6, "--output")
        assert run(tmp_path, *options, tmp_path / name, *words) == 0
        found[name] = np.asarray(Image.open(tmp_path / name / "a-masklabel.png"))
    np.testing.assert_array_equal(found["both"], np.maximum(found["dog"], found["name"]))
    assert set(np.unique(found["both"])) == {0, 255}
    assert (found["dog"] != found["name"]).mean() > 0.02


def test_masks_in_a_folder_of_their_own(tmp_path: Path) -> None:
    for name in ("a.png", "in/a.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGBA", (7, 5), (9, 9, 9, 128)).save(tmp_path / "pictures" / name)
    assert run(tmp_path / "pictures", "--method", "alpha", "--recursive", "--output", tmp_path / "masks") == 0
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert files == ["masks/a-masklabel.png", "masks/in/a-masklabel.png", "pictures/a.png", "pictures/in/a.png"]


def test_one_mask_after_another(models: Path, tmp_path: Path) -> None:
    """What is red without its edge, and a little of the rest."""
    picture = half_red(tmp_path / "a.png", size=(160, 64))
    rembg = (tmp_path, "--method", "rembg", "--model", models / "isnet-toy.onnx", "--threshold", 0.5)
    assert run(*rembg, "--shrink", 20) == 0
    assert np.flatnonzero(np.asarray(mask_beside(picture))[32] == 255)[[0, -1]] == pytest.approx((0, 59), abs=4)
    assert run(*rembg, "--mode", "subtract", "--shrink", 40, "--min_value", 0.1) == 0
    row = np.asarray(mask_beside(picture))[32]
    assert np.flatnonzero(row == 255)[[0, -1]] == pytest.approx((40, 59), abs=4)
    assert set(row) == {26, 255}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "alpha", "--model", "m", "--prompt", "p"], ["--model is for .*rembg or clipseg", "--prompt is"]),
        (["--method", "alpha", "--batch_size", "2"], ["--batch_size is for the method rembg or clipseg, not alpha"]),
        (["--method", "clipseg", "--prompt", "p", "--normalize", "isnet"], ["--normalize is for the method rembg"]),
        (["--method", "rembg"], ["needs --model FILE.onnx"]),
        (["--method", "clipseg"], ["needs --prompt"]),
        (["--method", "clipseg", "--prompt", "a dog", "--prompt", " "], ["needs --prompt"]),
        (["--method", "alpha", "--blur", "nan"], ["--blur nan must be 0 to 16384"]),
        (["--method", "alpha", "--blur", "inf"], ["--blur inf must be 0 to 16384"]),
        (["--method", "alpha", "--threshold", "0"], ["--threshold 0.0 must lie above 0"]),
        (["--method", "alpha", "--threshold", "nan"], ["--threshold nan must lie"]),
        (["--method", "alpha", "--min_value", "1"], ["--min_value 1.0 must lie from 0 to below 1"]),
        (["--method", "alpha", "--shrink", "-1", "--workers", "-2"], ["--shrink -1", "--workers -2"]),
        (["--method", "clipseg", "--prompt", "p", "--batch_size", "0"], ["--batch_size 0 must be 1 to 65536"]),
        (["--method", "alpha", "--mode", "blend"], ["invalid choice: 'blend'"]),
        (["--method", "magic"], ["invalid choice: 'magic'"]),
        (["--methods", "alpha"], ["--help lists what is allowed"]),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    Image.new("RGBA", (7, 5), (9, 9, 9, 128)).save(tmp_path / "a.png")
    with pytest.raises(InputError) as caught:
        make_masks.main([str(tmp_path), *arguments])
    assert len(caught.value.sentences) == len(words)
    for sentence, word in zip(caught.value.sentences, words, strict=True):
        assert re.search(word, sentence), sentence
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_wrong_input_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures found"):
        run(tmp_path, "--method", "alpha")
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(InputError, match="none of the masks could be made"):
        run(tmp_path, "--method", "alpha")
    with pytest.raises(InputError, match=r"u2net\.onnx does not exist"):
        run(tmp_path, "--method", "rembg", "--model", tmp_path / "u2net.onnx")
    with pytest.raises(InputError, match="is a file; name a folder"):
        run(tmp_path, "--method", "alpha", "--output", tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_refusals_and_help_come_without_what_is_heavy() -> None:
    code = "import sys; from preprocess import make_masks\n"
    code += "try: make_masks.main(['x', '--method', 'rembg'])\n"
    code += "except Exception as error: print(type(error).__name__)\n"
    code += "print(sorted({'torch', 'onnxruntime', 'scipy', 'skimage', 'transformers'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROGRAM.parents[1])
    assert result.stdout == "InputError\n[]\n", result.stderr
