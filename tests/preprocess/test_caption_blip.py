"""preprocess/caption_blip.py: a folder captioned by the demo's BLIP, by BLIP-2, and wrong input refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor

from demo.captions import full_caption
from demo.judge_captions import said_ground
from demo.world import draw, random_for, sample
from library.errors import InputError
from library.prepare.words import has_phrase
from preprocess import caption_blip
from tests.prepare.captioners import write_blip2

PROGRAM = Path(caption_blip.__file__)
DEMO = PROGRAM.parents[1] / "demo"
MODEL = ("--model", str(DEMO / "captioner"), "--device", "cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three creatures, one of them in a folder inside, and a broken file."""
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.png", "b.jpg", "in/c.webp")):
        draw(sample(random_for(1, number))).resize((200, 150)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def captions(folder: Path, ending: str = ".txt") -> dict[str, str]:
    """The captions in a folder by their files."""
    files = sorted(folder.rglob(f"*{ending}"))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8").strip() for path in files}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(folder: Path, *arguments: str) -> dict[str, str]:
    """The captions after a run that went well."""
    assert caption_blip.main([str(folder), *MODEL, *arguments]) == 0
    return captions(folder)


def test_the_demos_pictures_are_captioned_with_the_right_backgrounds(tmp_path: Path) -> None:
    for path in (DEMO / "subject").glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = contents(tmp_path)
    made = run(tmp_path, "--trigger_word", "sks", "--batch_size", "8")
    truth = captions(DEMO / "subject")
    assert made.keys() == truth.keys() and len(made) == 15
    assert all(caption.startswith("sks, a ") and "creature" in caption for caption in made.values())
    right = [said_ground(made[name]) == said_ground(truth[name]) for name in truth]
    assert sum(right) >= 14
    assert {path: content for path, content in contents(tmp_path).items() if path in before} == before


def test_what_is_said_and_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(run(folder)) == ["a.txt", "b.txt"]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["captions: 2 written, 1 failed:", f"  {folder}/broken.png: its content is not a picture"]
    first = captions(folder)
    assert list(run(folder, "--recursive")) == ["a.txt", "b.txt", "in/c.txt"]
    assert "captions: 2 kept, 1 written, 1 failed:" in capsys.readouterr().out
    assert captions(folder) | first == captions(folder)
    (folder / "broken.png").unlink()
    assert run(folder) == captions(folder)
    assert capsys.readouterr().out == "captions: 2 kept.\n"


def test_the_batch_changes_nothing_for_search_and_draws(folder: Path) -> None:
    for arguments in ([], ["--top_p", "0.9", "--seed", "4"]):
        one, four = (
            run(folder, "--recursive", "--mode", "overwrite", "--batch_size", size, *arguments) for size in ("1", "4")
        )
        assert one == four and len(one) == 3
    drawn = [run(folder, "--mode", "overwrite", "--top_p", "0.99", "--seed", str(seed))["a.txt"] for seed in range(4)]
    assert len(set(drawn)) > 1


def test_words_around_the_caption(folder: Path) -> None:
    plain = run(folder)["a.txt"]
    arguments = ["--mode", "append", "--prefix", "a drawing of", "--suffix", ", flat colors", "--trigger_word", "sks"]
    appended = run(folder, *arguments, "--forced_words", "creature,blue bird")["a.txt"]
    parts = appended.split(", ")
    assert parts[:2] == [plain, "sks"] and parts[2].startswith("a drawing of ") and "creature" in parts[2]
    assert parts[-2:] == ["blue bird", "flat colors"]


def test_the_prompt_is_gone_on_from_and_forbidden_words_are_not_said(folder: Path) -> None:
    assert run(folder, "--prompt", "a big purple", "--caption_extension", "cap") == {}
    prompted = captions(folder, ".cap")
    assert len(prompted) == 2
    assert all(re.match(r"a big purple .*creature", caption) for caption in prompted.values())
    plain = run(folder)["a.txt"]
    ground = said_ground(plain) or ""
    bound = run(folder, "--mode", "overwrite", "--forbidden_words", f"creature, {ground}")["a.txt"]
    assert ground and has_phrase(plain, ground) and has_phrase(plain, "creature")
    assert bound and not has_phrase(bound, ground) and not has_phrase(bound, "creature")


def test_lengths(folder: Path) -> None:
    assert run(folder, "--min_length", "1", "--max_length", "2")["a.txt"].split()[0] == "a"
    assert all(len(caption.split()) == 2 for caption in captions(folder).values())
    longer = run(folder, "--mode", "overwrite", "--min_length", "25", "--no-remove_repetition")
    assert all(len(caption.split()) >= 15 for caption in longer.values())


def test_loops_are_cut_counted_and_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # A length that the model has no other words for.
    arguments = ["--mode", "overwrite", "--min_length", "60", "--num_beams", "1"]
    long = run(folder, *arguments, "--no-remove_repetition")
    assert "loops were cut" not in capsys.readouterr().out
    short = run(folder, *arguments)
    said = capsys.readouterr().out
    looped = [name for name in long if long[name] != short[name]]
    assert looped and all(len(short[name]) < len(long[name]) for name in looped)
    assert f"loops were cut out of {len(looped)} captions" in said
    assert all(Path(name).stem in said for name in looped)


def test_a_preview_writes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.txt").write_text("old")
    before = contents(folder)
    run(folder, "--preview", "1")
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"a\.png: a .*creature", lines[0]) and lines[1] == "captions: 1 shown."
    assert contents(folder) == before


def test_blip2_says_what_transformers_says(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = write_blip2(tmp_path_factory.mktemp("blip2"), "opt")
    processor = AutoProcessor.from_pretrained(model)
    pictures = [Image.open(folder / name).convert("RGB") for name in ("a.png", "b.jpg")]
    inputs = processor(images=pictures, text=["a red cat"] * 2, return_tensors="pt")
    generator = transformers.Blip2ForConditionalGeneration.from_pretrained(model, dtype=torch.float32)
    ids = generator.generate(**inputs, num_beams=2, max_new_tokens=9, min_new_tokens=3)
    expected = [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
    arguments = ["--model", str(model), "--num_beams", "2", "--max_length", "9", "--min_length", "3"]
    arguments += ["--prompt", "a red cat", "--no-remove_repetition", "--device", "cpu"]
    assert caption_blip.main([str(folder), *arguments]) == 0
    assert list(captions(folder).values()) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch_size", "0"], "--batch_size is 0"),
        (["--preview", "0"], "--preview is 0"),
        (["--num_beams", "-1"], "--num_beams is -1"),
        (["--mode", "add"], "--mode"),
        (["--caption_extension", "a/b"], "caption_extension"),
        (["--dtype", "int8"], "--dtype"),
        (["--device", "toaster"], "--device toaster is not there"),
        (["--max_length", "500"], "room for 127 tokens"),
        (["--model", "no/such/folder/here"], "no/such/folder/here is neither a folder here nor"),
        (["--model", str(PROGRAM)], "is a file"),
        (["--model", str(DEMO / "subject")], "no config.json"),
    ],
)
def test_wrong_input_is_refused(folder: Path, arguments: list[str], words: str) -> None:
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        caption_blip.main([str(folder), *MODEL, *arguments])
    assert words in str(caught.value)
    assert contents(folder) == before


def test_a_folder_of_broken_files_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of the captions could be made"):
        run(tmp_path)


def test_as_a_program(folder: Path) -> None:
    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(PROGRAM), str(folder), *MODEL, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    refused = start("--top_p", "2")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "error: --top_p is 2; it must be above 0, and 1 (beam search) at most.\n"
    done = start("--dtype", "bf16")
    assert done.returncode == 0 and done.stdout.startswith("captions: 2 written, 1 failed:"), done.stderr
    assert len(captions(folder)) == 2


def test_arguments_are_refused_before_torch_is_imported(folder: Path) -> None:
    code = (
        "import sys; from preprocess import caption_blip\n"
        f"try: caption_blip.main([{str(folder)!r}, '--model', 'm', '--batch_size', '0'])\n"
        "except Exception as error: print(type(error).__name__, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROGRAM.parents[1], capture_output=True, text=True)
    assert result.stdout == "InputError False False\n", result.stderr


def test_captions_look_like_the_worlds_own(folder: Path) -> None:
    """The demo's captioner has learnt the phrasing, too."""
    words = {word for index in range(300) for word in full_caption(sample(random_for(5, index)), random_for(5, index))}
    assert set("".join(run(folder).values())) <= words
