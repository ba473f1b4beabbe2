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


def test_one_picture_with_its_parameters(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_sheet_of_strengths(model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet = tmp_path / "sheet.png"
    run(monkeypatch, "--model", model, "--lora", lora, "--prompt", "a dog", "--prompt", "a cat",
        "--sheet", sheet, "--strengths", "0,1,0", "--output", tmp_path / "one.png")  # fmt: skip
    for row in cells(sheet, 2, 3):
        assert np.array_equal(row[0], row[2])
        assert np.abs(row[0] - row[1]).mean() > 1
    second = Image.open(tmp_path / "one_02.png")
    assert "<lora:mark:1>" in second.text["parameters"] and 'Lora hashes: "mark: ' in second.text["parameters"]
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


def test_several_loras_work_together(model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = ("--model", model, "--prompt", "a dog", "--output")
    run(monkeypatch, *common, tmp_path / "base.png")
    run(monkeypatch, *common, tmp_path / "undone.png", "--lora", f"{lora}:0.5", f"{lora}:-0.5")
    run(monkeypatch, *common, tmp_path / "both.png", "--lora", f"{lora}:0.5", "--lora", f"{lora}:0.25")
    base, undone, both = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("base", "undone", "both"))
    assert np.abs(base.astype(int) - undone).max() <= 2
    assert np.abs(base.astype(int) - both).mean() > 1


def test_long_prompts_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--model", model, "--prompt", "otter " * 90, "--overwrite", "--output", tmp_path / "a.png")
    run(monkeypatch, *words)
    assert capsys.readouterr().err == ""
    whole = Image.open(tmp_path / "a.png").copy()
    run(monkeypatch, *words, "--max_token_length", 75)
    assert "takes 2 times 75 tokens, 75 are read" in capsys.readouterr().err
    assert Image.open(tmp_path / "a.png") != whole


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "x"], "give --output FILE.png or --sheet FILE.png"),
        (["--output", "a.png"], "give --prompt, --prompts_file or --like"),
        (["--prompt", "x", "--output", "a.jpg"], "the output must end in .png, not 'a.jpg'"),
        (["--prompt", "x", "--output", "a.png", "--promt", "x"], "unrecognized arguments: --promt"),
        (["--prompt", "x", "--output", "a.png", "--width", "65"], "width 65 is not a positive multiple of 8"),
        (["--prompt", "x", "--output", "a.png", "--sampler", "eulr"], "did you mean 'euler'?"),
        (["--prompt", "x", "--output", "a.png", "--number", "0"], "--number 0 must be 1 or more"),
        (["--prompt", "x", "--output", "a.png", "--clip_skip", "0"], "--clip_skip 0 must be 1 or more"),
        (
            ["--prompt", "x", "--output", "a.png", "--lora", "none.safetensors:1"],
            "--lora: there is no file none.safetensors",
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
        (["--prompt", "x", "--output", "a.png", "--batch_size", "0"], "--batch_size 0 must be 1 or more"),
        (["--prompt", "x", "--output", "a.png", "--strength", "0"], "--strength 0.0 is not above 0 and at most 1"),
        (["--prompt", "x", "--output", "a.png", "--init", "none.png"], "--init none.png cannot be read"),
        (["--prompt", "x", "--output", "a.png", "--lora_dir", "none"], "--lora_dir none: there is no such folder"),
        (["--prompt", "<lora:x:1>", "--output", "a.png"], "<lora:x> in a prompt: give --lora_dir"),
        (["--prompt", "<lora:x:y>", "--output", "a.png"], "<lora:x:y> in a prompt is not understood"),
        (["--output", "a.png", "--like", "none.png"], "none.png cannot be read as a picture"),
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


def test_numbers_of_files_sort() -> None:
    assert generate.numbered(Path("a.b.png"), 0, 1) == Path("a.b.png")
    assert generate.numbered(Path("a.b.png"), 6, 120) == Path("a.b_007.png")


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
    with pytest.raises(InputError, match=r"--embedding: there is no file none.pt"):
        run(monkeypatch, "--model", model, *common, "none.pt")
    with pytest.raises(InputError, match=r"my dog.safetensors: 'dog' cannot be a new word.*Give it as FILE:WORD"):
        run(monkeypatch, "--model", family, *common, f"{file}:dog")
    with pytest.raises(InputError, match="'<toy>' is given twice"):
        run(monkeypatch, "--model", family, *common, file, file)
    write_embedding(tmp_path / "wide.safetensors", Embedding("<toy>", {"text_encoder": torch.ones(1, 768)}), {})
    with pytest.raises(InputError, match="wide.safetensors does not fit the base model"):
        run(monkeypatch, "--model", family, *common, tmp_path / "wide.safetensors")
    assert not list(tmp_path.glob("*.png"))


def drawn(path: Path) -> np.ndarray:
    """A picture's values as whole numbers."""
    return np.asarray(Image.open(path)).astype(int)


def test_a_prompt_names_its_lora_and_the_picture_is_drawn_again(
    model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--model", model, "--lora_dir", lora.parent)
    how = ("--seed", 5, "--guidance", 3, "--sampler", "DPM++ 2S a Karras", "--width", 72, "--negative", "a, b")
    run(monkeypatch, *common, *how, "--prompt", "a (dog:1.3) <lora:mark:0.5>", "--output", tmp_path / "one.png")
    run(monkeypatch, *common, "--like", tmp_path / "one.png", "--output", tmp_path / "two.png")
    run(monkeypatch, "--model", model, *how, "--lora", f"{lora}:0.5", "--prompt", "a (dog:1.3) ",
        "--output", tmp_path / "three.png")  # fmt: skip
    one, two, three = (Image.open(tmp_path / f"{name}.png") for name in ("one", "two", "three"))
    assert one.size == (72, 64) and one == two and one.text == two.text
    assert np.array_equal(drawn(tmp_path / "one.png"), drawn(tmp_path / "three.png"))
    assert "Sampler: DPM++ 2S a, Schedule type: Karras, CFG scale: 3, Seed: 5, Size: 72x64" in one.text["parameters"]
    run(monkeypatch, *common, "--like", tmp_path / "one.png", "--seed", 6, "--output", tmp_path / "four.png")
    assert Image.open(tmp_path / "four.png").text["parameters"] == one.text["parameters"].replace("Seed: 5", "Seed: 6")


def test_nothing_is_replaced_unasked(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_02.png").write_text("mine")
    (tmp_path / "sheet.png").write_text("mine")
    words = ("--model", model, "--prompt", "x", "--number", 2, "--output", tmp_path / "a.png", "--sheet")
    with pytest.raises(InputError) as caught:
        run(monkeypatch, *words, tmp_path / "sheet.png")
    assert [sentence.partition(" is there already")[0] for sentence in caught.value.sentences] == [
        str(tmp_path / "a_02.png"), str(tmp_path / "sheet.png"),
    ]  # fmt: skip
    assert not (tmp_path / "a_01.png").exists()
    run(monkeypatch, *words, tmp_path / "sheet.png", "--overwrite")
    assert Image.open(tmp_path / "a_02.png").size == (64, 64)


def test_a_picture_is_made_of_another(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.jpg"
    Image.effect_mandelbrot((75, 69), (-2, -1.5, 1, 1.5), 50).save(other)
    common = ("--model", model, "--prompt", "a dog", "--init", other, "--steps", 3)
    for strength in (0.34, 1):
        run(monkeypatch, *common, "--strength", strength, "--output", tmp_path / f"{strength}.png")
    little, whole = Image.open(tmp_path / "0.34.png"), Image.open(tmp_path / "1.png")
    assert little.size == (72, 64) and "Denoising strength: 0.34" in little.text["parameters"]
    assert little != whole


def test_many_pictures_at_once_are_those_of_one_by_one(
    model: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat --w 72\na dog <lora:mark:0.5> --ss euler_a\na AND b\n")
    common = ("--model", model, "--prompts_file", prompts, "--number", 2, "--lora", f"{lora}:0.25")
    run(monkeypatch, *common, "--output", tmp_path / "one.png")
    run(monkeypatch, *common, "--output", tmp_path / "many.png", "--batch_size", 3, "--low_memory")
    for number in range(1, 7):
        one, many = (tmp_path / f"{name}_{number:02}.png" for name in ("one", "many"))
        assert np.abs(drawn(one) - drawn(many)).max() <= 2, number
        assert Image.open(one).text == Image.open(many).text
    assert Image.open(tmp_path / "many_01.png").text["parameters"].startswith("a cat <lora:mark:0.25>\nSteps")
    assert Image.open(tmp_path / "many_03.png").text["parameters"].startswith("a dog <lora:mark:0.5>\nSteps")


def test_help_has_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.parse_arguments(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "example: python tools/generate.py --model demo/model" in shown and "dpm++_2m_sde_karras" in shown
