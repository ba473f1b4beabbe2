"""tools/generate.py: pictures and sheets as asked, wrong input refused with nothing written."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from library.adapters.keys import LoraWeights, to_kohya
from library.errors import InputError
from library.models.embeddings import Embedding, rows_of, write_embedding, write_pickle
from library.models.family import open_family
from library.models.prompts import Prompt
from library.weights import save_tensors
from tests.toy_families import write_toy
from tests.toys import write_toy_sd1
from tools import generate

PROGRAM = Path(generate.__file__)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_sd1(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def lora(model: Path) -> Path:
    """A LoRA of rank 2 with a visible effect on every layer of the toy's UNet."""
    family = open_family(str(model))
    unet = family.load_unet(torch.float32)
    generator = torch.Generator().manual_seed(1)
    layers = {}
    for path, stem in family.adapter_layers(unet, "unet").items():
        outputs, inputs, *rest = unet.get_submodule(path).weight.shape
        down = torch.randn((2, inputs, *rest), generator=generator) * 0.3
        up = torch.randn((outputs, 2, *rest), generator=generator) * 0.3
        layers[stem] = LoraWeights(down, up, 2.0)
    path = model.parent / "mark.safetensors"
    save_tensors(path, to_kohya(layers))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The program's exit status, run in this process with few steps and no GPU's rounding."""
    words = [*map(str, arguments), "--steps", "3", "--precision", "no"]
    monkeypatch.setattr(sys, "argv", [str(PROGRAM), *words])
    return generate.main()


def cells(sheet: Path, rows: int, columns: int) -> list[list[np.ndarray]]:
    """The 256-pixel pictures of a sheet with labels and titles, found from its lower right corner."""
    pixels = np.asarray(Image.open(sheet)).astype(int)
    margin, size = 15, 256
    starts = [
        [
            (
                pixels.shape[0] - (rows - row) * (size + margin),
                pixels.shape[1] - (columns - column) * (size + margin),
            )
            for column in range(columns)
        ]
        for row in range(rows)
    ]
    return [[pixels[top : top + size, left : left + size] for top, left in row] for row in starts]


def test_one_picture_with_its_parameters(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "new" / "folder" / "out.png"
    assert run(monkeypatch, "--model", model, "--prompt", "a dög", "--negative", "bad", "--seed", 4,
               "--sampler", "Euler_A", "--clip_skip", 2, "--output", output) == 0  # fmt: skip
    assert [path.name for path in output.parent.iterdir()] == ["out.png"]
    picture = Image.open(output)
    assert picture.size == (64, 64)
    assert picture.text["parameters"] == (
        "a dög\nNegative prompt: bad\n"
        "Steps: 3, Sampler: Euler a, CFG scale: 7.5, Seed: 4, Size: 64x64, Model: toy, Clip skip: 2"
    )


def test_several_pictures_are_numbered_and_seeds_counted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat --w 128 --d 9\n")
    run(monkeypatch, "--model", model, "--prompt", "a dog", "--prompts_file", prompts, "--number", 2,
        "--output", tmp_path / "out.png")  # fmt: skip
    pictures = [Image.open(path) for path in sorted(tmp_path.glob("*.png"))]
    assert [Path(picture.filename).name for picture in pictures] == [f"out_0{n}.png" for n in (1, 2, 3, 4)]
    assert [picture.size for picture in pictures] == [(64, 64), (64, 64), (128, 64), (128, 64)]
    facts = [picture.text["parameters"] for picture in pictures]
    assert [fact.partition("Seed: ")[2].partition(",")[0] for fact in facts] == ["0", "1", "9", "10"]
    assert pictures[0] != pictures[1]


def test_a_sheet_of_strengths(
    model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = tmp_path / "sheet.png"
    run(monkeypatch, "--model", model, "--lora", lora, "--prompt", "a dog", "--prompt", "a cat",
        "--sheet", sheet, "--strengths", "0,1,0", "--output", tmp_path / "one.png")  # fmt: skip
    for row in cells(sheet, 2, 3):
        assert np.array_equal(row[0], row[2])
        assert np.abs(row[0] - row[1]).mean() > 1
    second = Image.open(tmp_path / "one_02.png")
    assert "<lora:mark:1>" in second.text["parameters"]
    enlarged = second.resize((256, 256), Image.Resampling.NEAREST)
    assert np.array_equal(cells(sheet, 2, 3)[0][1], np.asarray(enlarged))


def test_a_sheet_that_compares_files_with_the_base(
    model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared, strengths = tmp_path / "compared.png", tmp_path / "strengths.png"
    common = ("--model", model, "--prompt", "a dog")
    run(monkeypatch, *common, "--lora", f"{lora}:0.5", lora, "--compare", "--sheet", compared)
    run(monkeypatch, *common, "--lora", lora, "--strengths", "0,0.5,1", "--sheet", strengths)
    assert np.array_equal(cells(compared, 1, 3), cells(strengths, 1, 3))


def test_a_sheet_of_seeds(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = tmp_path / "sheet.png"
    run(monkeypatch, "--model", model, "--prompt", "a dog", "--number", 3, "--sheet", sheet)
    [[first, second, third]] = cells(sheet, 1, 3)
    assert not np.array_equal(first, second) and not np.array_equal(second, third)


def test_several_loras_work_together(
    model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--model", model, "--prompt", "a dog", "--output")
    run(monkeypatch, *common, tmp_path / "base.png")
    run(monkeypatch, *common, tmp_path / "undone.png", "--lora", f"{lora}:0.5", f"{lora}:-0.5")
    run(monkeypatch, *common, tmp_path / "both.png", "--lora", f"{lora}:0.5", "--lora", f"{lora}:0.25")
    base, undone, both = (
        np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("base", "undone", "both")
    )
    assert np.abs(base.astype(int) - undone).max() <= 2
    assert np.abs(base.astype(int) - both).mean() > 1


def test_long_prompts_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--model", model, "--prompt", "otter " * 90, "--output", tmp_path / "a.png")
    assert "has 90 tokens, 75 are read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "x"], "give --output FILE.png or --sheet FILE.png"),
        (["--output", "a.png"], "give --prompt or --prompts_file"),
        (["--prompt", "x", "--output", "a.jpg"], "pictures are written as .png files, not 'a.jpg'"),
        (["--prompt", "x", "--output", "a.png", "--promt", "x"], "unrecognized arguments: --promt"),
        (["--prompt", "x", "--output", "a.png", "--width", "65"], "width 65 is not a positive multiple of 8"),
        (["--prompt", "x", "--output", "a.png", "--sampler", "eulr"], "did you mean 'euler'?"),
        (["--prompt", "x", "--output", "a.png", "--number", "0"], "--number 0 must be 1 or more"),
        (["--prompt", "x", "--output", "a.png", "--clip_skip", "0"], "--clip_skip 0 must be 1 or more"),
        (
            ["--prompt", "x", "--output", "a.png", "--lora", "none.safetensors:1"],
            "none.safetensors: there is no",
        ),
        (
            ["--prompt", "x", "--output", "a.png", "--prompts_file", "none.txt"],
            "none.txt: the prompts cannot",
        ),
        (["--prompt", "x", "--output", "a.png", "--strengths", "0,1"], "give --sheet FILE.png too"),
        (["--prompt", "x", "--sheet", "a.png", "--strengths", "0,1"], "--strengths needs exactly one --lora"),
        (["--prompt", "x", "--sheet", "a.png", "--strengths", "0,nan"], "numbers with commas"),
        (["--prompt", "x", "--sheet", "a.png", "--compare"], "--compare needs one --lora or more"),
        (["--prompt", "x", "--sheet", "a.png"], "none"),
    ],
)
def test_wrong_input_is_refused(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        run(monkeypatch, "--model", "no-such-model-here/none.safetensors", *arguments)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_file_that_fits_no_model_is_refused_before_anything_is_drawn(
    model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = tmp_path / "strange.safetensors"
    layer = LoraWeights(torch.ones(1, 3), torch.ones(3, 1), 1.0)
    save_tensors(strange, to_kohya({"lora_unet_down_blocks_7_attentions_0_proj_in": layer}))
    with pytest.raises(InputError, match="strange.safetensors"):
        run(monkeypatch, "--model", model, "--prompt", "x", "--lora", lora, strange, "--compare",
            "--sheet", tmp_path / "a.png", "--output", tmp_path / "b.png")  # fmt: skip
    assert not list(tmp_path.glob("*.png"))


def test_wrong_input_ends_with_status_2_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = 'generate.py --model m --prompt x --output a.png --steps 0'.split()\n"
        "try:\n"
        f"    runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
        "finally:\n"
        "    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr == "error: steps 0 is not between 1 and 1000.\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "path", "strength"),
    [("a.safetensors", "a.safetensors", None), ("a.pt:0.8", "a.pt", 0.8), ("a:-1", "a", -1.0),
     ("C:/a.pt", "C:/a.pt", None), ("C:/a.pt:2", "C:/a.pt", 2.0)],
)  # fmt: skip
def test_a_lora_with_its_strength(text: str, path: str, strength: float | None) -> None:
    assert generate.read_lora(text) == generate.Lora(Path(path), strength)


def test_a_colon_in_a_file_name(tmp_path: Path) -> None:
    odd = tmp_path / "a:1"
    odd.touch()
    assert generate.read_lora(str(odd)) == generate.Lora(odd)
    assert generate.read_lora(f"{odd}:0.5") == generate.Lora(odd, 0.5)


def test_numbers_of_files_sort() -> None:
    assert generate.numbered(Path("a.b.png"), 0, 1) == Path("a.b.png")
    assert generate.numbered(Path("a.b.png"), 6, 120) == Path("a.b_007.png")


def test_labels_say_seeds_where_they_do_not_stand_across() -> None:
    prompts = [Prompt("x", seed=seed) for seed in (1, 2)]
    pictures = [Image.new("RGB", (64, 64))] * 4
    columns = [generate.Column("base model"), generate.Column("a")]
    two_by_two = generate.lay_out(pictures, columns, prompts, 2)
    one_by_two = generate.lay_out(pictures[:2], columns[:1], prompts, 2)
    assert two_by_two.height > 2 * 256 > one_by_two.height


@pytest.fixture(scope="module", params=["sd1", "sdxl"])
def word(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and the file of a word that is a copy of two known ones."""
    folder = write_toy(tmp_path_factory.mktemp("word") / request.param, request.param)
    family = open_family(str(folder))
    known = family.tokenize(["red dog"], 75)[0].ids[0, 0, 1:3].tolist()
    encoders = zip(family.text_parts, family.load_text_encoders(torch.float32), strict=True)
    embedding = Embedding("<toy>", {part: rows_of(encoder, known) for part, encoder in encoders})
    write_embedding(folder.parent / "my dog.safetensors", embedding, {})
    write_pickle(folder.parent / "fidget.pt", Embedding("<toy>", embedding.vectors), 1, "base")
    return folder, folder.parent / "my dog.safetensors"


def test_a_learned_word_is_drawn(
    word: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = word
    common = ("--model", model, "--width", 64, "--height", 64, "--output")
    run(monkeypatch, *common, tmp_path / "known.png", "--prompt", "a red dog here")
    pickle = file.with_name("fidget.pt")
    ways = {"own": ("<toy>", file), "renamed": ("Zogblat", f"{file}:zogblat"), "pickle": ("<p>", f"{pickle}:<p>")}
    for name, (said, given) in ways.items():
        run(monkeypatch, *common, tmp_path / f"{name}.png", "--prompt", f"a {said} here", "--embedding", given)
        assert np.array_equal(Image.open(tmp_path / f"{name}.png"), Image.open(tmp_path / "known.png")), name
    captured = capsys.readouterr()
    assert f"{file} is <toy> in prompts." in captured.out and "changes nothing" not in captured.err
    run(monkeypatch, *common, tmp_path / "a.png", "--prompt", "a dog", "--embedding", file)
    assert f"no prompt has <toy> in it, so {file} changes nothing" in capsys.readouterr().err


def test_learned_words_that_do_not_fit(
    word: tuple[Path, Path], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, file = word
    common = ("--prompt", "<toy>", "--output", tmp_path / "a.png", "--embedding")
    with pytest.raises(InputError, match=r"--embedding none.pt: there is no such file"):
        run(monkeypatch, "--model", model, *common, "none.pt")
    with pytest.raises(InputError, match=r"my dog.safetensors: 'dog' cannot be a new word.*Give it as FILE:WORD"):
        run(monkeypatch, "--model", family, *common, f"{file}:dog")
    with pytest.raises(InputError, match="'<toy>' is given twice"):
        run(monkeypatch, "--model", family, *common, file, file)
    write_embedding(tmp_path / "wide.safetensors", Embedding("<toy>", {"text_encoder": torch.ones(1, 768)}), {})
    with pytest.raises(InputError, match="wide.safetensors does not fit the base model"):
        run(monkeypatch, "--model", family, *common, tmp_path / "wide.safetensors")
    assert not list(tmp_path.glob("*.png"))
